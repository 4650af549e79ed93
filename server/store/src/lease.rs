//! Who holds a lease, decided purely.

/// One lease as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Who holds it.
    pub holder: String,
    /// Grows with each taking.
    pub token: u64,
    /// Ends at this time of the callers' clock, in milliseconds.
    pub until_ms: u64,
}

impl Lease {
    /// The lease after `holder` asked for it at `now_ms`; `None` while another holds it.
    pub fn ask(current: Option<&Lease>, holder: &str, now_ms: u64, ttl_ms: u64) -> Option<Lease> {
        let token = match current {
            None => 1,
            Some(lease) if now_ms >= lease.until_ms => lease.token + 1,
            Some(lease) if lease.holder == holder => lease.token,
            Some(_) => return None,
        };
        Some(Lease {
            holder: holder.to_owned(),
            token,
            until_ms: now_ms.saturating_add(ttl_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn renewed_in_time_it_keeps_its_token_and_taken_later_the_token_grows() {
        let first = Lease::ask(None, "a", 0, 10).unwrap();
        let renewed = Lease::ask(Some(&first), "a", 9, 10).unwrap();
        assert_eq!((renewed.token, renewed.until_ms), (1, 19));
        assert_eq!(Lease::ask(Some(&renewed), "b", 18, 10), None);
        let taken = Lease::ask(Some(&renewed), "b", 19, 10).unwrap();
        assert_eq!((taken.token, taken.holder.as_str()), (2, "b"));
        assert_eq!(Lease::ask(Some(&taken), "b", 100, 10).unwrap().token, 3);
    }
}
