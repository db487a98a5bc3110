//! Cron expressions: only whether one is valid; when it falls due comes with schedules.

const SHORTHANDS: [&str; 6] = ["@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly"];
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Five fields (minute, hour, day, month, weekday) of `*`, numbers, names, ranges, steps and lists.
pub fn validate(text: &str) -> Result<(), String> {
    if text.starts_with('@') {
        let known = SHORTHANDS.contains(&text);
        return if known { Ok(()) } else { Err(format!("write five fields, or one of {}", SHORTHANDS.join(", "))) };
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != 5 {
        let count = fields.len();
        return Err(format!(
            "a schedule has five fields (minute hour day month weekday), this has {count}; \"0 3 * * *\" is every day at 3:00"
        ));
    }
    let rules: [(&str, u32, u32, &[&str], u32); 5] = [
        ("minute", 0, 59, &[], 0),
        ("hour", 0, 23, &[], 0),
        ("day", 1, 31, &[], 0),
        ("month", 1, 12, &MONTHS, 1),
        ("weekday", 0, 7, &DAYS, 0),
    ];
    for (field, (what, min, max, names, offset)) in fields.iter().zip(rules) {
        let value = |text: &str| -> Option<u32> {
            let named = names.iter().position(|name| name.eq_ignore_ascii_case(text)).map(|at| at as u32 + offset);
            named.or_else(|| text.parse().ok().filter(|_| text.len() <= 2)).filter(|value| (min..=max).contains(value))
        };
        let valid = field.split(',').all(|part| {
            let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
            let steps = step.is_none_or(|step| step.parse::<u32>().is_ok_and(|step| (1..=max).contains(&step)));
            let spans = range == "*"
                || match range.split_once('-') {
                    Some((from, to)) => matches!((value(from), value(to)), (Some(from), Some(to)) if from <= to),
                    None => value(range).is_some(),
                };
            steps && spans
        });
        if !valid {
            return Err(format!("`{field}` is no {what}: it takes {min} to {max}, *, a-b, */n, or a list of them"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cron_expressions_are_checked_field_by_field() {
        for good in ["0 3 * * *", "*/5 0-6 1,15 jan-jun MON", "@daily", "59 23 31 12 7"] {
            assert_eq!(validate(good), Ok(()), "{good}");
        }
        for wrong in [
            "",
            "0 3 * *",
            "60 3 * * *",
            "0 24 * * *",
            "0 3 0 * *",
            "0 3 * 13 *",
            "*/0 * * * *",
            "5-1 * * * *",
            "@never",
            "a b c d e",
            "1,,2 * * * *",
        ] {
            assert!(validate(wrong).is_err(), "{wrong}");
        }
    }
}
