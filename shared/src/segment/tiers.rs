//! Which segments are to be made into one: a pure choice.
//!
//! A search takes the longer the more segments there are, and making one takes the longer the larger it is. So small ones
//! wait until there are some of them side by side, and what was made of these waits until it fills a whole one: each version
//! is written about three times in its life. One that holds much that was superseded is made again without it.

use super::{MAX_BYTES, MAX_PRODUCTS};
use std::ops::Range;

/// How large a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// How many versions of products it has.
    pub products: usize,
    /// About how many bytes a [`Builder`](super::Builder) would hold of it.
    pub bytes: usize,
    /// How many of its versions are superseded.
    pub dead: usize,
}

impl Size {
    fn live(&self) -> usize {
        self.products.saturating_sub(self.dead)
    }

    /// Whether more than a quarter of it is superseded.
    fn is_worn(&self) -> bool {
        self.dead * 4 > self.products
    }
}

/// From when on segments become one.
#[derive(Debug, Clone, Copy)]
pub struct Tiers {
    /// Segments with fewer products than this are small.
    pub small: usize,
    /// So many small ones make a larger one.
    pub few: usize,
    /// One with this many products is as good as whole.
    pub whole: usize,
    /// So many that are not make one also where it will not be whole.
    pub many: usize,
}

impl Default for Tiers {
    fn default() -> Tiers {
        Tiers { small: 2048, few: 8, whole: MAX_PRODUCTS / 8 * 7, many: 16 }
    }
}

impl Tiers {
    /// The segments, of all in the order of their numbers, that are to be replaced by one; `None` where all may stay as they
    /// are.
    pub fn choose(&self, segments: &[Size]) -> Option<Range<usize>> {
        let one = |at: usize| at..at + 1;
        let dead = segments.iter().position(|segment| segment.live() == 0);
        dead.map(one)
            .or_else(|| self.neighbours(segments, self.small, self.few))
            .or_else(|| segments.iter().position(Size::is_worn).map(one))
            .or_else(|| self.neighbours(segments, self.whole, self.many))
    }

    /// The first segments side by side that have fewer products than `below` each, and are so `many`, or fill one.
    fn neighbours(&self, segments: &[Size], below: usize, many: usize) -> Option<Range<usize>> {
        let (mut begin, mut live, mut bytes) = (0, 0, 0);
        for (at, segment) in segments.iter().enumerate() {
            if segment.live() >= below {
                (begin, live, bytes) = (at + 1, 0, 0);
                continue;
            }
            if live + segment.live() > MAX_PRODUCTS || bytes + segment.bytes > MAX_BYTES {
                if at - begin > 1 {
                    return Some(begin..at);
                }
                (begin, live, bytes) = (at, 0, 0);
            }
            live += segment.live();
            bytes += segment.bytes;
            if at + 1 - begin == many || (at > begin && live >= self.whole) {
                return Some(begin..at + 1);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(products: usize, each: usize) -> Size {
        Size { products, bytes: products * each, dead: 0 }
    }

    fn segments(products: &[usize]) -> Vec<Size> {
        products.iter().map(|products| size(*products, 600)).collect()
    }

    fn chosen(segments: &[Size]) -> Range<usize> {
        Tiers::default().choose(segments).unwrap_or_default()
    }

    #[test]
    fn small_ones_wait_for_others() {
        assert_eq!(chosen(&segments(&[])), 0..0);
        assert_eq!(chosen(&segments(&[300; 7])), 0..0);
        assert_eq!(chosen(&segments(&[300; 9])), 0..8);
        assert_eq!(chosen(&segments(&[300, 300, 60_000, 300, 300, 300, 300, 300, 300, 300, 300])), 3..11);
        assert_eq!(chosen(&segments(&[4096; 13])), 0..0);
        assert_eq!(chosen(&segments(&[4096; 14])), 0..14);
        assert_eq!(chosen(&segments(&[2048; 16])), 0..16);
        assert_eq!(chosen(&segments(&[30_000, 40_000])), 0..0);
        assert_eq!(chosen(&segments(&[30_000, 20_000, 40_000])), 0..2);
    }

    #[test]
    fn what_is_too_heavy_together_stays_apart() {
        let mut all = segments(&[300; 8]);
        all.iter_mut().for_each(|segment| segment.bytes = MAX_BYTES / 2 + 1);
        assert_eq!(chosen(&all), 0..0);
        all.iter_mut().for_each(|segment| segment.bytes = MAX_BYTES / 3);
        assert_eq!(chosen(&all), 0..3);
    }

    #[test]
    fn what_is_superseded_goes() {
        let mut all = segments(&[60_000, 5000, 60_000]);
        all[1].dead = 1250;
        assert_eq!(chosen(&all), 0..0);
        all[1].dead = 1251;
        assert_eq!(chosen(&all), 1..2);
        all[2].dead = 60_000;
        assert_eq!(chosen(&all), 2..3);
    }

    /// In whatever portions the tail is sealed, there come to be few segments, and no version is written often.
    #[test]
    fn portions_of_any_size_come_to_few_segments() {
        for (portion, each) in
            [256, 300, 1000, 2047, 2048, 4096, 5000, 20_000].into_iter().flat_map(|n| [(n, 600), (n, 2400)])
        {
            let tiers = Tiers::default();
            let (mut all, mut arrived, mut written) = (Vec::new(), 0, 0);
            while arrived < 20 * MAX_PRODUCTS {
                all.push(size(portion, each));
                arrived += portion;
                written += portion;
                while let Some(range) = tiers.choose(&all) {
                    let some = &all[range.clone()];
                    let products = some.iter().map(|segment| segment.products).sum();
                    let bytes: usize = some.iter().map(|segment| segment.bytes).sum();
                    assert!(products <= MAX_PRODUCTS && bytes <= MAX_BYTES && some.len() > 1, "{some:?}");
                    all.splice(range, [size(products, each)]);
                    written += products;
                }
            }
            let whole = (arrived / tiers.whole).max(arrived * each / MAX_BYTES);
            let most = 3 * whole / 2 + tiers.many + tiers.few;
            assert!(all.len() <= most, "{} of portions of {portion} of {each}", all.len());
            assert!(written <= 6 * arrived, "{portion} of {each}: {written} written of {arrived}");
        }
    }
}
