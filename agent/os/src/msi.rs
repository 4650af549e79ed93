//! Windows Installer packages as releases: which calls lead from what is installed to what is wanted,
//! and what their ends mean. Pure, tested on every OS.

use std::fmt;

/// One product, as its package or the system tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// `{…}`: new with each major upgrade.
    pub code: String,
    /// `{…}`: the same in all versions of a product.
    pub upgrade: String,
    /// Windows Installer compares the first three numbers.
    pub version: String,
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.version, self.code)
    }
}

/// One call of msiexec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// `/x` of this product code.
    Remove(String),
    /// `/i` of the wanted package.
    Install,
}

/// What leads from the products that are installed (of the wanted one's upgrade code) to the wanted one,
/// or to none.
///
/// A package upgrades what is older by itself. It refuses to come after what is newer or has its own
/// product code with another version: those are removed first. Between the two calls the product is
/// not there; a cut in between ends in the same work done again.
#[must_use]
pub fn steps(wanted: Option<&Product>, installed: &[Product]) -> Vec<Step> {
    let is_wanted = |product: &Product| {
        wanted.is_some_and(|wanted| {
            same(&wanted.code, &product.code) && wanted.version == product.version
        })
    };
    let in_the_way = |product: &&Product| match wanted {
        None => true,
        Some(wanted) => {
            let is_older = numbers(&product.version) < numbers(&wanted.version);
            !is_wanted(product) && (!is_older || same(&wanted.code, &product.code))
        }
    };
    let removed = installed.iter().filter(in_the_way);
    let mut steps: Vec<Step> = removed
        .map(|product| Step::Remove(product.code.clone()))
        .collect();
    if wanted.is_some() && !installed.iter().any(is_wanted) {
        steps.push(Step::Install);
    }
    steps
}

fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn numbers(version: &str) -> [u32; 3] {
    let mut parts = version
        .split('.')
        .map(|part| part.trim().parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

/// How a call of msiexec ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// As asked.
    Done,
    /// As asked, but files in use are replaced at the next boot only.
    RebootPending,
    /// Another installation is under way; nothing was touched.
    Busy,
    /// Not as asked; in words.
    Failed(String),
}

/// What the exit code of a call means.
#[must_use]
pub fn ended(code: u32, step: &Step) -> Ended {
    let why = match code {
        0 => return Ended::Done,
        // 1641: it began a reboot itself, which `REBOOT=ReallySuppress` forbids it.
        3010 | 1641 => return Ended::RebootPending,
        1618 => return Ended::Busy,
        // What is to go is gone.
        1605 | 1614 if matches!(step, Step::Remove(_)) => return Ended::Done,
        1601 => "the Windows Installer service does not answer",
        1602 => "somebody cancelled it",
        1603 => "it failed and was rolled back; the log says at which action",
        1612 => "the source of the installed product is gone, so that it cannot be removed",
        1619 | 1620 => "the package cannot be opened",
        1625 | 1643 | 1644 => "a policy of this machine forbids it",
        1633 => "the package is for another kind of processor",
        1638 => "another version of the product is installed",
        1639 => "the command line is refused",
        1654 => "the package refuses to be installed from here",
        _ => "it failed; the log says why",
    };
    Ended::Failed(format!("msiexec ended with {code}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(code: &str, version: &str) -> Product {
        Product {
            code: format!("{{{code}}}"),
            upgrade: "{U}".to_owned(),
            version: version.to_owned(),
        }
    }

    fn remove(code: &str) -> Step {
        Step::Remove(format!("{{{code}}}"))
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let wanted = product("a", "1.0.0");
        assert_eq!(steps(Some(&wanted), &[product("A", "1.0.0")]), []);
        assert_eq!(steps(None, &[]), []);
    }

    #[test]
    fn an_upgrade_is_the_packages_own_work() {
        let wanted = product("b", "1.10.0");
        assert_eq!(steps(Some(&wanted), &[]), [Step::Install]);
        let installed = [product("a", "1.9.0")];
        assert_eq!(steps(Some(&wanted), &installed), [Step::Install]);
    }

    #[test]
    fn what_is_newer_or_called_the_same_goes_first() {
        let wanted = product("a", "1.0.0");
        let newer = [product("b", "1.1.0")];
        assert_eq!(steps(Some(&wanted), &newer), [remove("b"), Step::Install]);
        let same_code = [product("a", "0.9.0")];
        assert_eq!(
            steps(Some(&wanted), &same_code),
            [remove("a"), Step::Install]
        );
        // As many numbers as are compared are equal, and yet it is another product.
        let fourth = [product("c", "1.0.0.7")];
        assert_eq!(steps(Some(&wanted), &fourth), [remove("c"), Step::Install]);
    }

    #[test]
    fn a_half_done_upgrade_ends_in_the_wanted_product_alone() {
        let wanted = product("b", "1.1.0");
        let both = [product("b", "1.1.0"), product("c", "1.2.0")];
        assert_eq!(steps(Some(&wanted), &both), [remove("c")]);
    }

    #[test]
    fn back_to_nothing_removes_every_product_of_the_family() {
        let installed = [product("a", "1.0.0"), product("b", "1.1.0")];
        assert_eq!(steps(None, &installed), [remove("a"), remove("b")]);
    }

    #[test]
    fn every_end_of_msiexec_is_told_for_what_it_is() {
        assert_eq!(ended(0, &Step::Install), Ended::Done);
        assert_eq!(ended(3010, &Step::Install), Ended::RebootPending);
        assert_eq!(ended(1641, &Step::Install), Ended::RebootPending);
        assert_eq!(ended(1618, &Step::Install), Ended::Busy);
        assert_eq!(ended(1605, &remove("a")), Ended::Done);
        assert!(matches!(ended(1605, &Step::Install), Ended::Failed(_)));
        let Ended::Failed(why) = ended(1603, &Step::Install) else {
            panic!("1603 is a failure");
        };
        assert!(why.contains("1603") && why.contains("rolled back"), "{why}");
    }
}
