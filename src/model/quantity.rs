//! Quantities as Kubernetes writes them: sizes `256Mi`, `10k`; processors `500m`, `1.5`.

/// Suffixes of sizes: binary ones first, so that `10MB` is answered with `10Mi`.
const SIZES: [(&str, u64); 8] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];

/// Bytes: `10Mi`, `64k`, `1.5Gi` or a bare number.
pub fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let factor = if suffix.is_empty() {
        1
    } else {
        let known = SIZES.iter().find(|(name, _)| *name == suffix);
        let alike = SIZES.iter().find(|(name, _)| {
            name.eq_ignore_ascii_case(suffix)
                || name.trim_end_matches('i').eq_ignore_ascii_case(suffix.trim_end_matches(['b', 'B']))
        });
        match (known, alike) {
            (Some((_, factor)), _) => *factor,
            (None, Some((name, _))) => return Err(format!("write {number}{name}")),
            (None, None) => return Err("write a size like 64Ki, 10Mi or 1Gi".into()),
        }
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(|| "a size beyond 16 EiB".into());
    }
    match number.parse::<f64>() {
        Ok(part) if suffix.is_empty() && part.fract() != 0.0 => Err("there are no half bytes".into()),
        Ok(part) if part * (factor as f64) < u64::MAX as f64 => Ok((part * factor as f64) as u64),
        Ok(_) | Err(_) => Err("write a size like 64Ki, 10Mi or 1Gi".into()),
    }
}

/// Thousandths of a processor: `500m`, `2`, `0.5`.
pub fn millicores(text: &str) -> Result<u64, String> {
    let wrong = || "write processors like 500m, 0.5 or 2".to_owned();
    let value = match text.trim().strip_suffix('m') {
        Some(millis) => millis.parse::<u64>().map_err(|_| wrong())?,
        None => {
            let cores: f64 = text.trim().parse().map_err(|_| wrong())?;
            if !(0.0..=1_000_000.0).contains(&cores) {
                return Err(wrong());
            }
            (cores * 1000.0).round() as u64
        }
    };
    if value == 0 { Err("a service cannot run on no processor; write at least 1m".into()) } else { Ok(value) }
}

/// The inverse of [`bytes`], in the largest binary unit that shows it exactly.
pub fn show_bytes(bytes: u64) -> String {
    for (suffix, factor) in [("Ti", 1u64 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{}{suffix}", bytes / factor);
        }
    }
    bytes.to_string()
}

/// The inverse of [`millicores`]: `2`, `500m`.
pub fn show_millicores(millis: u64) -> String {
    if millis.is_multiple_of(1000) { (millis / 1000).to_string() } else { format!("{millis}m") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        for (text, value) in [("10Mi", 10 << 20), ("1.5Gi", 3 << 29), ("64k", 64_000), ("512", 512), ("0", 0)] {
            assert_eq!(bytes(text), Ok(value), "{text}");
            assert_eq!(bytes(&show_bytes(value)), Ok(value));
        }
        assert_eq!(bytes("10MB"), Err("write 10Mi".into()));
        assert_eq!(bytes("10mi"), Err("write 10Mi".into()));
        for wrong in ["", "Mi", "-1", "1.5", "10 Mi", "99999999999999999999", "1e3Mi"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn processors_are_read_in_thousandths() {
        assert_eq!(millicores("500m"), Ok(500));
        assert_eq!(millicores("1.5"), Ok(1500));
        for millis in [1, 500, 1000, 1500, 64_000] {
            assert_eq!(millicores(&show_millicores(millis)), Ok(millis));
        }
        for wrong in ["", "m", "0", "-1", "2 cores", "NaN", "inf"] {
            assert!(millicores(wrong).is_err(), "{wrong}");
        }
    }
}
