//! Reading single fields: each helper names the field it reads when that fails.

use crate::error::{DecodeError, Fault};
use ringward_domain::ids::IdError;
use std::collections::BTreeMap;
use std::str::FromStr;

pub(crate) type Result<T> = std::result::Result<T, DecodeError>;

/// A text of people that is clipped on sending, so that an honest sender is never refused.
pub(crate) fn clip(mut text: String, max: usize) -> String {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
    }
    text
}

pub(crate) fn need<T>(field: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| DecodeError::new(field, Fault::Missing))
}

/// A message field that must be there.
pub(crate) fn message<P, D>(field: &str, value: Option<P>) -> Result<D>
where
    D: TryFrom<P, Error = DecodeError>,
{
    D::try_from(need(field, value)?).map_err(|e| e.within(field))
}

/// A message field that may be absent.
pub(crate) fn maybe<P, D>(field: &str, value: Option<P>) -> Result<Option<D>>
where
    D: TryFrom<P, Error = DecodeError>,
{
    value
        .map(|v| D::try_from(v).map_err(|e| e.within(field)))
        .transpose()
}

pub(crate) fn id<T>(field: &str, raw: &[u8]) -> Result<T>
where
    T: for<'a> TryFrom<&'a [u8], Error = IdError>,
{
    if raw.is_empty() {
        return Err(DecodeError::new(field, Fault::Missing));
    }
    T::try_from(raw).map_err(|e| malformed(field, e.why))
}

pub(crate) fn maybe_id<T>(field: &str, raw: Option<&[u8]>) -> Result<Option<T>>
where
    T: for<'a> TryFrom<&'a [u8], Error = IdError>,
{
    raw.map(|raw| id(field, raw)).transpose()
}

pub(crate) fn parse<T>(field: &str, text: &str) -> Result<T>
where
    T: FromStr<Err = IdError>,
{
    if text.is_empty() {
        return Err(DecodeError::new(field, Fault::Missing));
    }
    text.parse()
        .map_err(|e: IdError| malformed(field, &e.to_string()))
}

pub(crate) fn maybe_parse<T>(field: &str, text: Option<&str>) -> Result<Option<T>>
where
    T: FromStr<Err = IdError>,
{
    text.map(|text| parse(field, text)).transpose()
}

pub(crate) fn text(field: &str, text: String, max: usize) -> Result<String> {
    size(field, text.len(), max, "bytes")?;
    Ok(text)
}

pub(crate) fn size(field: &str, size: usize, max: usize, unit: &'static str) -> Result<()> {
    if size > max {
        return Err(DecodeError::new(field, Fault::TooLarge { size, max, unit }));
    }
    Ok(())
}

/// Every element by `read`, whose errors get the element's index.
pub(crate) fn list<P, D>(
    field: &str,
    values: Vec<P>,
    max: usize,
    read: impl Fn(P) -> Result<D>,
) -> Result<Vec<D>> {
    size(field, values.len(), max, "elements")?;
    values
        .into_iter()
        .enumerate()
        .map(|(i, value)| read(value).map_err(|e| e.within(&format!("{field}[{i}]"))))
        .collect()
}

pub(crate) fn messages<P, D>(field: &str, values: Vec<P>, max: usize) -> Result<Vec<D>>
where
    D: TryFrom<P, Error = DecodeError>,
{
    list(field, values, max, D::try_from)
}

pub(crate) fn ids<T>(field: &str, values: Vec<Vec<u8>>, max: usize) -> Result<Vec<T>>
where
    T: for<'a> TryFrom<&'a [u8], Error = IdError>,
{
    list(field, values, max, |raw| id("", &raw))
}

pub(crate) fn texts(
    field: &str,
    values: Vec<String>,
    max: usize,
    each: usize,
) -> Result<Vec<String>> {
    list(field, values, max, |value| text("", value, each))
}

pub(crate) fn labels(
    field: &str,
    labels: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    use ringward_domain::limits::{LABEL_BYTES_MAX, LABELS_MAX};
    size(field, labels.len(), LABELS_MAX, "labels")?;
    for (key, value) in &labels {
        if key.is_empty() {
            return Err(malformed(field, "a label's key must not be empty"));
        }
        let at = format!("{field}[{}]", clip(key.clone(), LABEL_BYTES_MAX));
        size(&at, key.len().max(value.len()), LABEL_BYTES_MAX, "bytes")?;
    }
    Ok(labels)
}

pub(crate) fn malformed(field: &str, why: &str) -> DecodeError {
    DecodeError::new(field, Fault::Malformed(why.to_owned()))
}
