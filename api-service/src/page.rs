//! Lists in pages: by the last item's key, so that a page costs the same however deep it is, and items that
//! come or go in between shift nothing.

use std::str::FromStr;

use crate::error::Error;

/// Items in a page when the caller does not say.
pub const DEFAULT_LIMIT: u32 = 50;
/// Items in a page at most.
pub const MAX_LIMIT: u32 = 200;

/// Which page of a list sorted by `K`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest<K> {
    /// Start after this key; `None` starts at the first.
    pub after: Option<K>,
    /// Items at most, 1 to [`MAX_LIMIT`].
    pub limit: u32,
}

impl<K: FromStr> PageRequest<K> {
    /// Reads what the caller sent: `after` is the `next` of the page before.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the limit is out of range or the cursor is none of ours.
    pub fn parse(after: Option<&str>, limit: Option<u32>) -> Result<Self, Error> {
        let limit = limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Error::invalid("limit", format!("must be 1 to {MAX_LIMIT}")));
        }
        let after = after.map(str::parse).transpose();
        let after = after.map_err(|_| Error::invalid("after", "must be the `next` of a page"))?;
        Ok(Self { after, limit })
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, K> {
    /// The items, in order.
    pub items: Vec<T>,
    /// Where the next page starts; `None` where this is the last.
    pub next: Option<K>,
}

impl<T, K> Page<T, K> {
    /// Cuts `items`, read with one more than `limit` as the limit, into a page.
    pub fn cut(mut items: Vec<T>, limit: u32, key: impl Fn(&T) -> K) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(key) } else { None };
        Self { items, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_next_only_when_there_is_more() {
        assert_eq!(Page::cut(vec![1, 2], 2, |n| *n), Page { items: vec![1, 2], next: None });
        assert_eq!(Page::cut(vec![1, 2, 3], 2, |n| *n), Page { items: vec![1, 2], next: Some(2) });
        assert_eq!(Page::cut(Vec::<u8>::new(), 2, |n| *n), Page { items: vec![], next: None });
    }

    #[test]
    fn limits_out_of_range_and_foreign_cursors_are_refused() {
        assert!(PageRequest::<u32>::parse(None, Some(0)).is_err());
        assert!(PageRequest::<u32>::parse(None, Some(MAX_LIMIT + 1)).is_err());
        assert!(PageRequest::<u32>::parse(Some("x"), None).is_err());
        let page = PageRequest::<u32>::parse(Some("7"), None);
        assert_eq!(page.ok(), Some(PageRequest { after: Some(7), limit: DEFAULT_LIMIT }));
    }
}
