//! Numbers as searches compare them: exactly, whichever of JSON's two kinds they are.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cmp::Ordering;

/// A number: a double, or an integer of which the nearest double is only a part.
///
/// Doubles cannot tell integers from 2⁵³ on apart. Rounding keeps the order of numbers, so that two are in the order of
/// their nearest doubles, and where these are one in the order of what is beside.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Number {
    nearest: f64,
    /// How much more an integer of 64 bits is than that.
    rest: i16,
}

impl Number {
    /// What stands for none where numbers are ordered with what is no number: it comes after all.
    pub(crate) const NONE: Number = Number { nearest: f64::NAN, rest: 0 };

    /// Whether it is one, and not [`NONE`](Self::NONE).
    pub(crate) fn is_one(self) -> bool {
        !self.nearest.is_nan()
    }

    /// The number that a JSON value is, where it is one.
    pub fn of(value: &Value) -> Option<Number> {
        let Value::Number(number) = value else { return None };
        let integer = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
        integer.map(Number::integer).or_else(|| number.as_f64().and_then(Number::float))
    }

    /// The number that a text is in decimal digits, as JSON and clients write it: with a sign, a fraction, or an exponent.
    /// An integer beyond 64 bits is the nearest double, for the index has none.
    pub fn read(text: &str) -> Option<Number> {
        let text = text.trim();
        let integer = || text.parse::<i64>().map(i128::from).or_else(|_| text.parse::<u64>().map(i128::from));
        // Not what only Rust would read as a number (`inf`, `nan`).
        let of_double = |b: &u8| matches!(b, b'.' | b'e' | b'E');
        let (mut whole, mut plausible) = (true, true);
        for b in text.as_bytes() {
            whole &= !of_double(b);
            plausible &= of_double(b) || matches!(b, b'0'..=b'9' | b'+' | b'-');
        }
        if whole && let Ok(integer) = integer() {
            return Some(Number::integer(integer));
        }
        if plausible { text.parse().ok().and_then(Number::float) } else { None }
    }

    fn integer(integer: i128) -> Number {
        // Most are what a double holds.
        if let Ok(small) = i64::try_from(integer)
            && small.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS
        {
            return Number { nearest: small as f64, rest: 0 };
        }
        let nearest = integer as f64;
        // Of 64 bits a double leaves out 11.
        Number { nearest, rest: (integer - nearest as i128) as i16 }
    }

    fn float(float: f64) -> Option<Number> {
        // The two zeros are one.
        float.is_finite().then_some(Number { nearest: float + 0.0, rest: 0 })
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Number) -> Ordering {
        self.nearest.total_cmp(&other.nearest).then_with(|| self.rest.cmp(&other.rest))
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Number {}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_in_their_exact_order() {
        let rising = [
            json!(-1e300),
            json!(-2f64.powi(63) - 2048.0),
            json!(i64::MIN),
            json!(i64::MIN + 1),
            json!(-9_007_199_254_740_993_i64),
            json!(-9_007_199_254_740_992_i64),
            json!(-0.5),
            json!(0),
            json!(5e-324),
            json!(2.5e-7),
            json!(9_007_199_254_740_991_i64),
            json!(9_007_199_254_740_992.0),
            json!(9_007_199_254_740_993_i64),
            json!(9_007_199_254_740_994_i64),
            json!(9_007_199_254_740_995_i64),
            json!(9_999_999_999_999_999_i64),
            json!(1e16),
            json!(i64::MAX),
            json!(2f64.powi(63)),
            json!(u64::MAX - 1),
            json!(u64::MAX),
            json!(2f64.powi(64)),
            json!(1e300),
        ];
        for (n, low) in rising.iter().enumerate() {
            assert_eq!(Number::read(&low.to_string()), Number::of(low), "{low}");
            for (m, high) in rising.iter().enumerate() {
                assert_eq!(Number::of(low).cmp(&Number::of(high)), n.cmp(&m), "{low} {high}");
            }
        }
        let same =
            [("4", "4.0"), ("-0.0", "0"), ("2.5e-07", "0.00000025"), ("+5", "5"), ("1E3", " 1000 "), (".5", "5e-1")];
        for (one, other) in same {
            assert!(Number::read(one).is_some() && Number::read(one) == Number::read(other), "{one} {other}");
        }
    }

    #[test]
    fn what_is_no_number_reads_as_none() {
        for text in
            ["", " ", ".", "e5", "inf", "nan", ".inf", "1e999", "1_000", "0x1F", "1,5", "1 2", "--1", "ten", "٣"]
        {
            assert_eq!(Number::read(text), None, "{text:?}");
        }
        assert_eq!(Number::of(&json!("5")), None);
    }
}
