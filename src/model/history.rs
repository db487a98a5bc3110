//! What is remembered of a service in numbers: buckets of time that add up.
//!
//! A bucket holds sums, not averages, so that two of them are one: minutes make hours, and a terminal
//! folds what it has no columns for. Printed, it tells what people ask for: percent, means, extremes.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::view::{Event, ExitView, RunView};

/// What was seen in one stretch of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "Figures", from = "Figures")]
pub struct Bucket {
    /// It could be used.
    pub up_ms: u64,
    /// It should have been usable and was not. Time in which nothing was expected of it is neither.
    pub down_ms: u64,
    pub probes_ok: u64,
    pub probes_failed: u64,
    pub restarts: u64,
    /// From 0 to 100; the extreme is the lowest.
    pub score: Tally,
    /// In microseconds; the extreme is the highest.
    pub latency: Tally,
}

/// A number that was seen several times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub count: u64,
    pub sum: u64,
    pub extreme: u64,
}

impl Tally {
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }

    fn add(&mut self, other: Tally, worse: impl Fn(u64, u64) -> u64) {
        self.extreme = match (self.count, other.count) {
            (_, 0) => self.extreme,
            (0, _) => other.extreme,
            (_, _) => worse(self.extreme, other.extreme),
        };
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.saturating_add(other.sum);
    }
}

impl Bucket {
    /// Adds what another stretch of time has seen.
    pub fn add(&mut self, other: &Bucket) {
        self.up_ms = self.up_ms.saturating_add(other.up_ms);
        self.down_ms = self.down_ms.saturating_add(other.down_ms);
        self.probes_ok = self.probes_ok.saturating_add(other.probes_ok);
        self.probes_failed = self.probes_failed.saturating_add(other.probes_failed);
        self.restarts = self.restarts.saturating_add(other.restarts);
        self.score.add(other.score, u64::min);
        self.latency.add(other.latency, u64::max);
    }

    pub fn scored(&mut self, score: u8) {
        let score = u64::from(score.min(100));
        self.score.add(Tally { count: 1, sum: score, extreme: score }, u64::min);
    }

    pub fn answered_in(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency.add(Tally { count: 1, sum: micros, extreme: micros }, u64::max);
    }

    /// In percent, cut to two decimals so that 100 means all; none where nothing was expected.
    pub fn availability(&self) -> Option<f64> {
        let all = self.up_ms.saturating_add(self.down_ms);
        (all > 0).then(|| (self.up_ms as f64 / all as f64 * 10_000.0).floor() / 100.0)
    }

    pub fn is_empty(&self) -> bool {
        *self == Bucket::default()
    }

    /// As numbers in a fixed order: how it is stored.
    pub fn numbers(&self) -> [u64; NUMBERS] {
        let Bucket { up_ms, down_ms, probes_ok, probes_failed, restarts, score, latency } = *self;
        [
            up_ms,
            down_ms,
            probes_ok,
            probes_failed,
            restarts,
            score.count,
            score.sum,
            score.extreme,
            latency.count,
            latency.sum,
            latency.extreme,
        ]
    }

    pub fn of_numbers(numbers: [u64; NUMBERS]) -> Bucket {
        let [up_ms, down_ms, probes_ok, probes_failed, restarts, a, b, c, d, e, f] = numbers;
        Bucket {
            up_ms,
            down_ms,
            probes_ok,
            probes_failed,
            restarts,
            score: Tally { count: a, sum: b, extreme: c },
            latency: Tally { count: d, sum: e, extreme: f },
        }
    }
}

/// How many numbers a bucket is.
pub const NUMBERS: usize = 11;

/// A bucket as it is printed: what follows from it stands there too, and is not read back.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    availability: Option<f64>,
    up_ms: u64,
    down_ms: u64,
    probes: Probes,
    restarts: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    score: Option<Score>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latency: Option<Latency>,
}

#[derive(Serialize, Deserialize)]
struct Probes {
    ok: u64,
    failed: u64,
}

#[derive(Serialize, Deserialize)]
struct Score {
    mean: f64,
    min: u64,
    count: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Latency {
    mean_micros: f64,
    max_micros: u64,
    count: u64,
}

impl From<Bucket> for Figures {
    fn from(bucket: Bucket) -> Figures {
        let Bucket { up_ms, down_ms, probes_ok, probes_failed, restarts, score, latency } = bucket;
        let cut = |mean: f64| (mean * 10.0).floor() / 10.0;
        Figures {
            availability: bucket.availability(),
            up_ms,
            down_ms,
            probes: Probes { ok: probes_ok, failed: probes_failed },
            restarts,
            score: score.mean().map(|mean| Score { mean: cut(mean), min: score.extreme, count: score.count }),
            latency: latency.mean().map(|mean| Latency {
                mean_micros: cut(mean),
                max_micros: latency.extreme,
                count: latency.count,
            }),
        }
    }
}

impl From<Figures> for Bucket {
    fn from(figures: Figures) -> Bucket {
        let sum = |mean: f64, count: u64| (mean * count as f64).round() as u64;
        Bucket {
            up_ms: figures.up_ms,
            down_ms: figures.down_ms,
            probes_ok: figures.probes.ok,
            probes_failed: figures.probes.failed,
            restarts: figures.restarts,
            score: figures.score.map_or(Tally::default(), |score| Tally {
                count: score.count,
                sum: sum(score.mean, score.count),
                extreme: score.min,
            }),
            latency: figures.latency.map_or(Tally::default(), |latency| Tally {
                count: latency.count,
                sum: sum(latency.mean_micros, latency.count),
                extreme: latency.max_micros,
            }),
        }
    }
}

/// One bucket in its place.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// When it begins.
    pub at: Timestamp,
    #[serde(flatten)]
    pub seen: Bucket,
}

/// What is remembered of one service: the answer of `/v1/services/{name}/history`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    pub service: String,
    pub since: Timestamp,
    pub until: Timestamp,
    /// How long a point is: a minute, or an hour where more than a day was asked for.
    pub step_secs: u64,
    /// All points in one.
    pub total: Bucket,
    /// The oldest first; where nothing was seen there is none.
    pub points: Vec<Point>,
    /// Of a service that runs by the clock, as many as its manifest says; the newest last. Where a controller
    /// knows the service they are what it knows; else what the memory holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<RunView>,
    /// The newest last.
    pub exits: Vec<ExitView>,
    /// The newest last.
    pub events: Vec<Event>,
}

impl History {
    /// Nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty() && self.runs.is_empty() && self.exits.is_empty() && self.events.is_empty()
    }
}

/// The points, put into so many cells of equal length between `since` and `until`; a cell in which
/// nothing was seen is none.
pub fn fold(history: &History, cells: usize) -> Vec<Option<Bucket>> {
    let mut folded = vec![None; cells];
    let from = history.since.as_millisecond();
    let length = history.until.as_millisecond().saturating_sub(from).max(1);
    for point in &history.points {
        // A point that began before the first moment asked for belongs to it all the same.
        let offset = point.at.as_millisecond().saturating_sub(from).max(0);
        let cell = (i128::from(offset) * cells as i128 / i128::from(length)) as usize;
        if let Some(cell) = folded.get_mut(cell.min(cells.saturating_sub(1))) {
            cell.get_or_insert_with(Bucket::default).add(&point.seen);
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tally() -> impl Strategy<Value = Tally> {
        proptest::collection::vec(0..101u64, 0..4).prop_map(|seen| Tally {
            count: seen.len() as u64,
            sum: seen.iter().sum(),
            extreme: seen.iter().copied().min().unwrap_or_default(),
        })
    }

    prop_compose! {
        fn bucket()(plain in proptest::array::uniform5(0..1_000_000u64), score in tally(), latency in tally()) -> Bucket {
            let [up_ms, down_ms, probes_ok, probes_failed, restarts] = plain;
            Bucket { up_ms, down_ms, probes_ok, probes_failed, restarts, score, latency }
        }
    }

    proptest! {
        #[test]
        fn adding_knows_no_order_and_loses_nothing(a in bucket(), b in bucket(), c in bucket()) {
            let sum = |parts: [&Bucket; 3]| parts.into_iter().fold(Bucket::default(), |mut all, one| { all.add(one); all });
            prop_assert_eq!(sum([&a, &b, &c]), sum([&c, &a, &b]));
            prop_assert_eq!(sum([&a, &b, &c]).restarts, a.restarts + b.restarts + c.restarts);
            prop_assert_eq!(sum([&a, &Bucket::default(), &Bucket::default()]), a);
        }

        #[test]
        fn a_bucket_is_its_numbers(a in bucket()) {
            prop_assert_eq!(Bucket::of_numbers(a.numbers()), a);
        }

        #[test]
        fn availability_is_100_only_where_nothing_was_lost(a in bucket()) {
            match a.availability() {
                None => prop_assert_eq!(a.up_ms + a.down_ms, 0),
                Some(percent) => prop_assert_eq!(percent == 100.0, a.down_ms == 0),
            }
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let mut bucket = Bucket { up_ms: 59_000, down_ms: 1_000, probes_ok: 5, probes_failed: 1, ..Bucket::default() };
        bucket.scored(90);
        bucket.scored(100);
        bucket.answered_in(Duration::from_micros(180));
        let text = serde_json::to_string(&bucket).expect("plain numbers");
        assert_eq!(
            text,
            r#"{"availability":98.33,"upMs":59000,"downMs":1000,"probes":{"ok":5,"failed":1},"restarts":0,"score":{"mean":95.0,"min":90,"count":2},"latency":{"meanMicros":180.0,"maxMicros":180,"count":1}}"#
        );
        assert_eq!(serde_json::from_str::<Bucket>(&text).expect("the same"), bucket);
    }

    #[test]
    fn points_are_folded_into_the_cells_they_fall_in() {
        let at = |secs: i64| Timestamp::from_second(secs).expect("in range");
        let point = |secs, restarts| Point { at: at(secs), seen: Bucket { restarts, ..Bucket::default() } };
        let history = History {
            service: "web".into(),
            since: at(10),
            until: at(610),
            step_secs: 60,
            total: Bucket::default(),
            points: vec![point(0, 1), point(70, 2), point(130, 4), point(600, 8), point(700, 16)],
            runs: Vec::new(),
            exits: Vec::new(),
            events: Vec::new(),
        };
        let restarts = |cells| {
            let folded = fold(&history, cells);
            folded.iter().map(|cell| cell.as_ref().map(|bucket| bucket.restarts)).collect::<Vec<_>>()
        };
        assert_eq!(restarts(5), [Some(3), Some(4), None, None, Some(24)]);
        assert_eq!(restarts(1), [Some(31)]);
        assert_eq!(restarts(0), []);
    }
}
