//! The buckets of all services in one stretch of time, as one blob.
//!
//! A row for each service and minute would be 1.4 million rows a day on a node of 1,000, spread over
//! as many pages; one blob a minute is a few pages at the end of the file. Each entry is the service's
//! number, how many numbers follow, and the numbers, all as LEB128: a quiet minute of a service takes
//! some 16 bytes. What cannot be read ends the blob: a torn one is as long as it is whole.

use std::collections::BTreeMap;

use crate::model::history::{Bucket, NUMBERS};

/// The buckets by the service's number.
pub(crate) type Buckets = BTreeMap<u64, Bucket>;

pub(crate) fn pack(buckets: &Buckets) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(buckets.len() * 20);
    for (id, bucket) in buckets {
        put(&mut bytes, *id);
        put(&mut bytes, NUMBERS as u64);
        bucket.numbers().into_iter().for_each(|number| put(&mut bytes, number));
    }
    bytes
}

/// The entries of a blob, one after the other.
pub(crate) fn entries(mut bytes: &[u8]) -> impl Iterator<Item = (u64, Bucket)> {
    std::iter::from_fn(move || entry(&mut bytes))
}

fn entry(bytes: &mut &[u8]) -> Option<(u64, Bucket)> {
    let id = get(bytes)?;
    let mut numbers = [0; NUMBERS];
    // A later version may have more of them.
    for at in 0..get(bytes)? {
        let number = get(bytes)?;
        if let Some(slot) = usize::try_from(at).ok().and_then(|at| numbers.get_mut(at)) {
            *slot = number;
        }
    }
    Some((id, Bucket::of_numbers(numbers)))
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn get(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for at in 0..10 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f).checked_shl(at * 7)?;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(numbers in proptest::collection::btree_map(any::<u64>(), proptest::array::uniform11(any::<u64>()), 0..8)) {
            let buckets: Buckets = numbers.into_iter().map(|(id, numbers)| (id, Bucket::of_numbers(numbers))).collect();
            prop_assert_eq!(entries(&pack(&buckets)).collect::<Buckets>(), buckets);
        }

        #[test]
        fn no_bytes_make_the_reader_fall(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(entries(&bytes).count() <= bytes.len());
        }
    }

    #[test]
    fn a_quiet_minute_takes_few_bytes_and_a_torn_blob_keeps_its_beginning() {
        let mut bucket = Bucket { up_ms: 60_000, probes_ok: 6, ..Bucket::default() };
        (0..6).for_each(|_| bucket.scored(100));
        (0..6).for_each(|_| bucket.answered_in(std::time::Duration::from_micros(200)));
        let bytes = pack(&Buckets::from([(1, bucket), (2, bucket)]));
        assert!(bytes.len() <= 2 * 19, "{}", bytes.len());
        assert_eq!(entries(&bytes[..bytes.len() - 1]).collect::<Vec<_>>(), [(1, bucket)]);
    }
}
