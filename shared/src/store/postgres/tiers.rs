//! Which segments are to be made into one: a pure choice.
//!
//! A search takes the longer the more segments there are, and making one takes the longer the larger it is. So small ones
//! wait until there are some of them side by side, and what was made of these waits until it fills a whole one: each version
//! is written about three times in its life. One that holds much that was superseded is made again without it.

use crate::segment::{MAX_BYTES, MAX_PRODUCTS};

/// Segments with fewer products than this are small: so many of them make a larger one.
const SMALL: usize = 2048;
const FEW_SMALL: usize = 8;
/// One with this many is as good as whole. Of those below, so many make one also where it will not be.
const WHOLE: usize = MAX_PRODUCTS / 8 * 7;
const MANY: usize = 16;

/// A segment that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) id: i64,
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) products: usize,
    pub(super) weight: usize,
    /// How many of its products were superseded.
    pub(super) dead: usize,
}

impl Kept {
    fn live(&self) -> usize {
        self.products.saturating_sub(self.dead)
    }

    /// Whether more than a quarter of it is superseded.
    fn is_worn(&self) -> bool {
        self.dead * 4 > self.products
    }
}

/// The segments, of a volume's in their order, that are to be replaced by one; `None` where all may stay as they are.
pub(super) fn choose(segments: &[Kept]) -> Option<&[Kept]> {
    let dead = segments.iter().position(|segment| segment.live() == 0);
    if let Some(at) = dead {
        return segments.get(at..=at);
    }
    neighbours(segments, SMALL, FEW_SMALL)
        .or_else(|| segments.iter().position(Kept::is_worn).and_then(|at| segments.get(at..=at)))
        .or_else(|| neighbours(segments, WHOLE, MANY))
}

/// The first segments side by side that have fewer products than `below` each, and are so `many`, or fill one.
fn neighbours(segments: &[Kept], below: usize, many: usize) -> Option<&[Kept]> {
    let (mut begin, mut live, mut weight) = (0, 0, 0);
    for (at, segment) in segments.iter().enumerate() {
        if segment.live() >= below {
            (begin, live, weight) = (at + 1, 0, 0);
            continue;
        }
        if live + segment.live() > MAX_PRODUCTS || weight + segment.weight > MAX_BYTES {
            if at - begin > 1 {
                return segments.get(begin..at);
            }
            (begin, live, weight) = (at, 0, 0);
        }
        live += segment.live();
        weight += segment.weight;
        if at + 1 - begin == many || (at > begin && live >= WHOLE) {
            return segments.get(begin..=at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(products: &[usize]) -> Vec<Kept> {
        let kept = |(n, products): (i64, &usize)| Kept {
            id: n,
            first: 10 * n,
            last: 10 * n + 9,
            products: *products,
            weight: products * 600,
            dead: 0,
        };
        (0..).zip(products).map(kept).collect()
    }

    fn chosen(segments: &[Kept]) -> Vec<i64> {
        choose(segments).unwrap_or_default().iter().map(|segment| segment.id).collect()
    }

    #[test]
    fn small_ones_wait_for_others() {
        assert_eq!(chosen(&segments(&[])), [0i64; 0]);
        assert_eq!(chosen(&segments(&[300; 7])), [0i64; 0]);
        assert_eq!(chosen(&segments(&[300; 9])), (0..8).collect::<Vec<_>>());
        assert_eq!(
            chosen(&segments(&[300, 300, 60_000, 300, 300, 300, 300, 300, 300, 300, 300])),
            (3..11).collect::<Vec<_>>()
        );
        assert_eq!(chosen(&segments(&[4096; 13])), [0i64; 0]);
        assert_eq!(chosen(&segments(&[4096; 14])), (0..14).collect::<Vec<_>>());
        assert_eq!(chosen(&segments(&[2048; 16])), (0..16).collect::<Vec<_>>());
        assert_eq!(chosen(&segments(&[30_000, 40_000])), [0i64; 0]);
        assert_eq!(chosen(&segments(&[30_000, 20_000, 40_000])), [0, 1]);
    }

    #[test]
    fn what_is_too_heavy_together_stays_apart() {
        let mut all = segments(&[300; 8]);
        all.iter_mut().for_each(|segment| segment.weight = MAX_BYTES / 2 + 1);
        assert_eq!(chosen(&all), [0i64; 0]);
        all.iter_mut().for_each(|segment| segment.weight = MAX_BYTES / 3);
        assert_eq!(chosen(&all), [0, 1, 2]);
    }

    #[test]
    fn what_is_superseded_goes() {
        let mut all = segments(&[60_000, 5000, 60_000]);
        all[1].dead = 1250;
        assert_eq!(chosen(&all), [0i64; 0]);
        all[1].dead = 1251;
        assert_eq!(chosen(&all), [1]);
        all[2].dead = 60_000;
        assert_eq!(chosen(&all), [2]);
    }

    /// In whatever portions the tail is sealed, there come to be few segments, and no version is written often.
    #[test]
    fn portions_of_any_size_come_to_few_segments() {
        for (portion, each) in
            [256, 300, 1000, 2047, 2048, 4096, 5000, 20_000].into_iter().flat_map(|n| [(n, 600), (n, 2400)])
        {
            let kept = |products| Kept { id: 0, first: 0, last: 0, products, weight: products * each, dead: 0 };
            let (mut all, mut arrived, mut written) = (Vec::new(), 0, 0);
            while arrived < 20 * MAX_PRODUCTS {
                all.push(kept(portion));
                arrived += portion;
                written += portion;
                while let Some(some) = choose(&all) {
                    let products = some.iter().map(|segment| segment.products).sum();
                    let weight: usize = some.iter().map(|segment| segment.weight).sum();
                    assert!(products <= MAX_PRODUCTS && weight <= MAX_BYTES && some.len() > 1, "{some:?}");
                    let begin = all.iter().position(|segment| std::ptr::eq(segment, &some[0])).expect("of these");
                    let end = begin + some.len();
                    all.splice(begin..end, [kept(products)]);
                    written += products;
                }
            }
            let whole = (arrived / WHOLE).max(arrived * each / MAX_BYTES);
            assert!(all.len() <= 3 * whole / 2 + MANY + FEW_SMALL, "{} of portions of {portion} of {each}", all.len());
            assert!(written <= 6 * arrived, "{portion} of {each}: {written} written of {arrived}");
        }
    }
}
