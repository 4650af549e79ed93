//! Label selectors: `site=berlin,criticality!=high,env in (a,b),tier notin (x),managed,!protected`.
//! Every requirement must hold.

use ringward_domain::host::Labels;
use std::fmt;
use std::str::FromStr;

/// Bytes of a selector as text.
const TEXT_BYTES_MAX: usize = 1024;
/// Requirements of one selector.
const REQUIREMENTS_MAX: usize = 32;

/// Picks hosts by their labels. Holds at least one requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

/// One requirement on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    /// The label has one of these values.
    In(String, Vec<String>),
    /// The label has none of these values, or is missing.
    NotIn(String, Vec<String>),
    /// The label is there.
    Has(String),
    /// The label is missing.
    Lacks(String),
}

/// Why a text is not a selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "reading the selector {text:?} at byte {at}: {why}; write for example `site=berlin,env in (a,b),!protected`"
)]
pub struct SelectorError {
    /// The text, cut to 80 characters.
    pub text: String,
    /// Where it went wrong.
    pub at: usize,
    /// What was expected.
    pub why: &'static str,
}

impl Selector {
    /// Whether a host with these labels is picked.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            Requirement::NotIn(key, values) => !labels.get(key).is_some_and(|v| values.contains(v)),
            Requirement::Has(key) => labels.contains_key(key),
            Requirement::Lacks(key) => !labels.contains_key(key),
        })
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._/:@+-".contains(&byte)
}

impl<'a> Reader<'a> {
    fn error(&self, why: &'static str) -> SelectorError {
        SelectorError {
            text: self.text.chars().take(80).collect(),
            at: self.at,
            why,
        }
    }
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }
    fn skip_space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start_matches(' ').len();
    }
    fn take(&mut self, token: &str) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }
    fn word(&mut self, why: &'static str) -> Result<String, SelectorError> {
        self.skip_space();
        let len = self.rest().bytes().take_while(|b| is_word(*b)).count();
        if len == 0 {
            return Err(self.error(why));
        }
        let word = self.rest()[..len].to_owned();
        self.at += len;
        Ok(word)
    }
    fn keyword(&mut self, keyword: &str) -> bool {
        let before = self.at;
        if self.take(keyword) && !self.rest().bytes().next().is_some_and(is_word) {
            return true;
        }
        self.at = before;
        false
    }
    fn list(&mut self) -> Result<Vec<String>, SelectorError> {
        if !self.take("(") {
            return Err(self.error("a list in parentheses was expected"));
        }
        let mut values = vec![self.word("a value was expected")?];
        while self.take(",") {
            values.push(self.word("a value was expected")?);
        }
        if !self.take(")") {
            return Err(self.error("`,` or `)` was expected"));
        }
        Ok(values)
    }
    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        if self.take("!") {
            return Ok(Requirement::Lacks(
                self.word("a label was expected after `!`")?,
            ));
        }
        let key = self.word("a label was expected")?;
        if self.take("!=") {
            return Ok(Requirement::NotIn(
                key,
                vec![self.word("a value was expected after `!=`")?],
            ));
        }
        if self.take("==") || self.take("=") {
            return Ok(Requirement::In(
                key,
                vec![self.word("a value was expected after `=`")?],
            ));
        }
        if self.keyword("in") {
            return Ok(Requirement::In(key, self.list()?));
        }
        if self.keyword("notin") {
            return Ok(Requirement::NotIn(key, self.list()?));
        }
        Ok(Requirement::Has(key))
    }
}

impl FromStr for Selector {
    type Err = SelectorError;
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let mut reader = Reader { text, at: 0 };
        if text.len() > TEXT_BYTES_MAX {
            return Err(reader.error("at most 1024 bytes are allowed"));
        }
        let mut requirements = vec![reader.requirement()?];
        while reader.take(",") {
            if requirements.len() == REQUIREMENTS_MAX {
                return Err(reader.error("at most 32 requirements are allowed"));
            }
            requirements.push(reader.requirement()?);
        }
        reader.skip_space();
        match reader.rest() {
            "" => Ok(Self(requirements)),
            _ => Err(reader.error("`,` or the end was expected")),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            match requirement {
                Requirement::In(key, values) if values.len() == 1 => {
                    write!(f, "{key}={}", values[0])?
                }
                Requirement::In(key, values) => write!(f, "{key} in ({})", values.join(","))?,
                Requirement::NotIn(key, values) if values.len() == 1 => {
                    write!(f, "{key}!={}", values[0])?
                }
                Requirement::NotIn(key, values) => write!(f, "{key} notin ({})", values.join(","))?,
                Requirement::Has(key) => f.write_str(key)?,
                Requirement::Lacks(key) => write!(f, "!{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn picks(selector: &str, pairs: &[(&str, &str)]) -> bool {
        selector
            .parse::<Selector>()
            .unwrap()
            .matches(&labels(pairs))
    }

    #[test]
    fn each_requirement_means_what_it_says() {
        let host = [("site", "berlin"), ("env", "a"), ("in", "x")];
        for yes in [
            "site=berlin",
            "site==berlin",
            "env in (a,b)",
            "env",
            "!protected",
            "criticality!=high",
            "env notin (c)",
            "site=berlin , env in ( a , b )",
            "in in (x)",
        ] {
            assert!(picks(yes, &host), "{yes}");
        }
        for no in [
            "site=bonn",
            "env notin (a)",
            "!env",
            "protected",
            "site!=berlin",
            "site=berlin,env=b",
        ] {
            assert!(!picks(no, &host), "{no}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_place() {
        for bad in [
            "", " ", "site=", "=a", "a b", "a in", "a in ()", "a in (b", "a,,b", "a,", "!", "a&b",
            "ä=1",
        ] {
            assert!(bad.parse::<Selector>().is_err(), "{bad:?}");
        }
        assert_eq!("site=berlin;x".parse::<Selector>().unwrap_err().at, 11);
    }

    fn word() -> impl Strategy<Value = String> {
        "[a-z0-9._/:@+-]{1,8}"
    }

    fn requirement() -> impl Strategy<Value = Requirement> {
        prop_oneof![
            (word(), prop::collection::vec(word(), 1..4)).prop_map(|(k, v)| Requirement::In(k, v)),
            (word(), prop::collection::vec(word(), 1..4))
                .prop_map(|(k, v)| Requirement::NotIn(k, v)),
            word().prop_map(Requirement::Has),
            word().prop_map(Requirement::Lacks),
        ]
    }

    proptest! {
        #[test]
        fn a_selector_reads_back_what_it_prints(requirements in prop::collection::vec(requirement(), 1..6)) {
            let selector = Selector(requirements);
            prop_assert_eq!(selector.to_string().parse::<Selector>().unwrap(), selector);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,64}", tail in "[a-z!=(), ]{0,32}") {
            let _ = text.parse::<Selector>();
            let _ = tail.parse::<Selector>();
        }

        #[test]
        fn a_requirement_and_its_opposite_split_the_fleet(key in word(), value in word(), has in word()) {
            let host = labels(&[(key.as_str(), has.as_str())]);
            for (a, b) in [(format!("{key}={value}"), format!("{key}!={value}")), (key.clone(), format!("!{key}"))] {
                let (a, b): (Selector, Selector) = (a.parse().unwrap(), b.parse().unwrap());
                prop_assert!(a.matches(&host) != b.matches(&host));
            }
        }
    }
}
