//! Enough of Rust's lexical grammar to look for words in code without being fooled by comments,
//! strings and test modules.

/// The source with comments, strings and character literals blanked, line breaks kept.
pub fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let skipped = match rest {
            [b'/', b'/', ..] => rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
            [b'/', b'*', ..] => block_comment(rest),
            [b'"', ..] => string(rest),
            [b'r', b'"' | b'#', ..] if !in_word(bytes, at) => raw_string(rest).unwrap_or(0),
            [b'\'', ..] => character(rest),
            _ => 0,
        };
        if skipped == 0 {
            out.push(if bytes[at].is_ascii() {
                char::from(bytes[at])
            } else {
                '?'
            });
            at += 1;
        } else {
            out.extend(
                rest[..skipped]
                    .iter()
                    .map(|b| if *b == b'\n' { '\n' } else { ' ' }),
            );
            at += skipped;
        }
    }
    out
}

fn in_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|b| **b == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return None;
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let body = &rest[2 + hashes..];
    let length = body
        .windows(end.len())
        .position(|window| window == end.as_slice())?;
    Some(2 + hashes + length + end.len())
}

/// A character literal; 0 for a lifetime.
fn character(rest: &[u8]) -> usize {
    match rest {
        [_, b'\\', ..] => rest
            .iter()
            .skip(3)
            .position(|b| *b == b'\'')
            .map_or(0, |p| p + 4),
        [_, _, b'\'', ..] => 3,
        _ => 0,
    }
}

/// The part of blanked code before its `#[cfg(test)]` module; tests may do what cores may not.
pub fn without_tests(code: &str) -> &str {
    code.find("#[cfg(test)]").map_or(code, |at| &code[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_comments_and_strings_are_not_code() {
        let source = "let a = \"HashMap\"; // HashMap\n/* HashMap /* */ HashMap */ let b = r#\"HashMap\"#; let c = '\"'; HashMap";
        let code = code_only(source);
        assert_eq!(code.matches("HashMap").count(), 1);
        assert!(code.ends_with("HashMap"));
        assert_eq!(code.lines().count(), source.lines().count());
    }

    #[test]
    fn lifetimes_are_not_character_literals() {
        assert!(code_only("fn f<'a>(x: &'a str) { HashMap }").contains("HashMap"));
    }
}
