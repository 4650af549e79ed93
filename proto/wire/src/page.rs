//! Listings by keyset page.

use crate::error::DecodeError;
use crate::field::{malformed, messages};

/// Things a page holds at most.
pub const SIZE_MAX: usize = 1000;
/// Things a page holds where nothing is asked for.
pub const SIZE_DEFAULT: usize = 200;
/// Bytes of a page token.
pub const TOKEN_BYTES_MAX: usize = 256;

/// Where a page starts and how much it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// 1 to [`SIZE_MAX`].
    pub size: usize,
    /// Key of the last thing of the page before, exclusive; empty for the first page.
    pub after: Vec<u8>,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self {
            size: SIZE_DEFAULT,
            after: Vec::new(),
        }
    }
}

impl PageRequest {
    /// Reads the two fields that every listing has.
    ///
    /// # Errors
    /// A size above [`SIZE_MAX`], a token longer than [`TOKEN_BYTES_MAX`].
    pub fn decode(page_size: u32, page_token: Vec<u8>) -> Result<Self, DecodeError> {
        let size = match page_size as usize {
            0 => SIZE_DEFAULT,
            size @ 1..=SIZE_MAX => size,
            _ => return Err(malformed("page_size", "must be 1-1000, or 0 for 200")),
        };
        crate::field::size("page_token", page_token.len(), TOKEN_BYTES_MAX, "bytes")?;
        Ok(Self {
            size,
            after: page_token,
        })
    }
}

/// A page of things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// In the order of the listing.
    pub items: Vec<T>,
    /// Gives the next page; empty after the last.
    pub next: Vec<u8>,
}

impl<T> Page<T> {
    /// Reads the elements of an answer's page; errors name `field` and index.
    ///
    /// # Errors
    /// An element that cannot be read, or more of them than [`SIZE_MAX`].
    pub fn decode<P>(field: &str, items: Vec<P>, next: Vec<u8>) -> Result<Self, DecodeError>
    where
        T: TryFrom<P, Error = DecodeError>,
    {
        Ok(Self {
            items: messages(field, items, SIZE_MAX)?,
            next,
        })
    }
}
