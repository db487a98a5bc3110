//! `plugd history` as a person meets it: wide, narrow, in ASCII, in a pipe, and with nothing to tell.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use plugd::cli::history::text;
use plugd::cli::look::{Look, columns};
use plugd::model::history::{Bucket, History, Point};
use plugd::model::reason::Reason;
use plugd::model::text::Charset;
use plugd::model::view::{Event, ExitView, RunResult, RunView};

use super::samples::at;
use super::{TERMINAL, mailer, now};

fn ago(minutes: i64) -> Timestamp {
    now().checked_sub(SignedDuration::from_mins(minutes)).expect("in range")
}

/// A day with a dip in the morning and a crash just now.
fn day() -> History {
    let point = |minutes: i64| {
        let down = (600..660).contains(&minutes) || minutes < 3;
        let mut seen = Bucket { probes_ok: 6, up_ms: 60_000, ..Bucket::default() };
        if down {
            seen = Bucket { probes_failed: 6, down_ms: 60_000, restarts: 1, ..Bucket::default() };
        }
        seen.scored(if down { 20 } else { 98 });
        seen.answered_in(Duration::from_micros(300 + (1440 - minutes as u64) * 3));
        Point { at: ago(minutes), seen }
    };
    // It was not there before: the first third is not known.
    let points: Vec<Point> = (0..960).rev().map(point).collect();
    let mut total = Bucket::default();
    points.iter().for_each(|point| total.add(&point.seen));
    History {
        service: "mailer".into(),
        since: ago(1440),
        until: now(),
        step_secs: 60,
        total,
        points,
        runs: Vec::new(),
        exits: vec![
            ExitView {
                code: None,
                signal: Some("SIGKILL".into()),
                reason: Some(Reason::OomKilled),
                by: None,
                at: ago(600),
                ran_for: Duration::from_secs(7200),
                output: Vec::new(),
            },
            ExitView {
                code: Some(1),
                signal: None,
                reason: None,
                by: None,
                at: at("2026-11-23T12:30:18Z"),
                ran_for: Duration::from_millis(200),
                output: vec!["bind: \x1b[31maddress already in use".into(), String::new()],
            },
        ],
        events: vec![Event {
            at: at("2026-11-23T12:30:18Z"),
            service: Some("mailer".into()),
            instance: None,
            reason: Reason::CrashLoopBackOff,
            warning: true,
            message: "mailer exited with 1; restarting in 16 s (attempt 6), because it cannot bind its port".into(),
        }],
    }
}

#[test]
fn the_past_of_a_service_is_drawn_and_summed() {
    insta::assert_snapshot!("history_80_columns", text(&day(), Some(&mailer()), &TERMINAL, now()));
}

#[test]
fn a_narrow_terminal_has_the_lines_beneath() {
    let look = Look { width: Some(40), ..TERMINAL };
    let told = text(&day(), Some(&mailer()), &look, now());
    for line in told.lines() {
        assert!(columns(line) <= 40, "{line}");
    }
    insta::assert_snapshot!("history_40_columns", told);
}

#[test]
fn a_terminal_without_unicode_has_as_much_ink() {
    let look = Look { charset: Charset::Ascii, width: Some(80), ..TERMINAL };
    let told = text(&day(), None, &look, now());
    assert!(told.is_ascii(), "{told}");
    insta::assert_snapshot!("history_ascii", told);
}

#[test]
fn in_a_pipe_nothing_is_cut() {
    let told = text(&day(), None, &Look::PLAIN, now());
    assert!(told.contains("because it cannot bind its port"), "{told}");
    assert!(!told.contains('\x1b'), "{told}");
}

#[test]
fn where_nothing_was_measured_that_is_said() {
    let day = day();
    let empty = History { points: Vec::new(), exits: Vec::new(), events: Vec::new(), total: Bucket::default(), ..day };
    insta::assert_snapshot!("history_empty", text(&empty, Some(&mailer()), &TERMINAL, now()));
}

#[test]
fn the_runs_of_a_job_are_told_with_what_became_of_them() {
    let run = |scheduled: Option<&str>, started: &str, result: RunResult, code: Option<i32>, took: Option<f64>| {
        RunView { scheduled: scheduled.map(at), started: Some(at(started)), result, code, took_seconds: took }
    };
    let runs = vec![
        run(Some("2026-11-22T03:00:00Z"), "2026-11-22T03:00:00.1Z", RunResult::Failed, Some(1), Some(12.34)),
        run(None, "2026-11-22T09:30:00Z", RunResult::Completed, Some(0), Some(312.0)),
        run(Some("2026-11-23T03:00:00Z"), "2026-11-23T03:00:00.1Z", RunResult::Running, None, None),
    ];
    let told = text(&History { runs, ..day() }, None, &TERMINAL, now());
    let table: Vec<&str> = told.lines().skip_while(|line| *line != "last runs").take(5).map(str::trim_end).collect();
    assert_eq!(
        table,
        [
            "last runs",
            "  SCHEDULED             STARTED               TOOK   RESULT",
            "  2026-11-22T03:00:00Z  2026-11-22T03:00:00Z  12.3s  failed, code 1",
            "  by hand               2026-11-22T09:30:00Z  5m     completed, code 0",
            "  2026-11-23T03:00:00Z  2026-11-23T03:00:00Z  -      running",
        ]
    );
}
