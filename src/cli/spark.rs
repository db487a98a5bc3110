//! Sparklines: a number of eighths in a column, and a blank where nothing is known.

use crate::model::text::Charset;

/// From little to much; what is nothing at all has the first too, for a blank is "not known".
const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// As much ink where the terminal cannot show blocks.
const ASCII: [char; 8] = ['_', '.', ':', '-', '=', '+', '*', '#'];

/// Parts of a whole, from 0 to 1: the full block stands for a whole that nothing is missing of.
pub fn parts(values: &[Option<f64>], charset: Charset) -> String {
    draw(values, charset, |value| if value >= 1.0 { 7 } else { (value.max(0.0) * 7.0) as usize })
}

/// Numbers beside each other: the full block is the largest of them, the first is nothing.
pub fn beside(values: &[Option<f64>], charset: Charset) -> String {
    let most = values.iter().flatten().copied().fold(0.0, f64::max);
    draw(values, charset, |value| if most <= 0.0 { 0 } else { (value / most * 7.0).ceil() as usize })
}

fn draw(values: &[Option<f64>], charset: Charset, level: impl Fn(f64) -> usize) -> String {
    let ramp = match charset {
        Charset::Unicode => EIGHTHS,
        Charset::Ascii => ASCII,
    };
    let cell = |value: &Option<f64>| value.map_or(' ', |value| ramp[level(value).min(7)]);
    values.iter().map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_is_full_and_what_is_not_known_is_blank() {
        let values = [Some(1.0), Some(0.9999), None, Some(0.5), Some(0.0), Some(7.0), Some(-1.0)];
        assert_eq!(parts(&values, Charset::Unicode), "█▇ ▄▁█▁");
        assert_eq!(parts(&values, Charset::Ascii), "#* -_#_");
    }

    #[test]
    fn numbers_are_drawn_beside_the_largest() {
        assert_eq!(beside(&[Some(0.0), Some(1.0), None, Some(10.0)], Charset::Unicode), "▁▂ █");
        assert_eq!(beside(&[Some(0.0), Some(0.0)], Charset::Unicode), "▁▁");
        assert_eq!(beside(&[], Charset::Ascii), "");
    }
}
