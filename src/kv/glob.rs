//! Patterns of keys, as Redis matches them.
//!
//! `*` stands for any bytes, `?` for one, `[abc]` and `[a-z]` for one of these, `[^a]` for one that
//! is none of these, and `\x` for x itself.
//!
//! A pattern with many stars must not take exponential time (a known way to stop a server). It need
//! not: when a match fails, only the *last* star can help by standing for one byte more. What the
//! stars before it stand for is already the shortest that works, and longer would leave less to
//! match. So one place to go back to is enough, and the time is bounded by the product of the
//! lengths.

/// Whether the pattern describes all of the text.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at_pattern, mut at_text) = (0, 0);
    // Behind the last star, and where the text goes on if it stands for one byte more.
    let mut last_star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at_pattern) == Some(&b'*') {
            at_pattern += 1;
            last_star = Some((at_pattern, at_text + 1));
            continue;
        }
        let Some(&byte) = text.get(at_text) else {
            return at_pattern == pattern.len();
        };
        if let Some((true, bytes)) = match_one(&pattern[at_pattern..], byte) {
            at_pattern += bytes;
            at_text += 1;
        } else if let Some((behind_star, go_on)) = last_star {
            (at_pattern, at_text) = (behind_star, go_on);
            last_star = Some((behind_star, go_on + 1));
        } else {
            return false;
        }
    }
}

/// The bytes with which every text begins that the pattern describes.
pub fn literal_prefix(pattern: &[u8]) -> Vec<u8> {
    let mut prefix = Vec::new();
    let mut rest = pattern;
    loop {
        rest = match rest {
            [] | [b'*' | b'?' | b'[', ..] => return prefix,
            [b'\\', escaped, rest @ ..] | [escaped, rest @ ..] => {
                prefix.push(*escaped);
                rest
            }
        }
    }
}

/// Whether the first item of the pattern, which is not a star, describes this byte, and how long
/// that item is. `None` at the end of the pattern.
fn match_one(pattern: &[u8], byte: u8) -> Option<(bool, usize)> {
    match pattern {
        [] => None,
        [b'?', ..] => Some((true, 1)),
        [b'\\', escaped, ..] => Some((*escaped == byte, 2)),
        [b'[', class @ ..] => {
            let (holds, bytes) = match_class(class, byte);
            Some((holds, bytes + 1))
        }
        [literal, ..] => Some((*literal == byte, 1)),
    }
}

/// The same for what follows a `[`. A class that is not closed ends with the pattern.
fn match_class(class: &[u8], byte: u8) -> (bool, usize) {
    let is_negated = class.first() == Some(&b'^');
    let mut rest = if is_negated { &class[1..] } else { class };
    let mut found = false;
    loop {
        rest = match rest {
            [] => break,
            [b'\\', escaped, rest @ ..] => {
                found |= *escaped == byte;
                rest
            }
            [b']', rest @ ..] => return (found != is_negated, class.len() - rest.len()),
            [from, b'-', to, rest @ ..] => {
                found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                rest
            }
            [literal, rest @ ..] => {
                found |= *literal == byte;
                rest
            }
        }
    }
    (found != is_negated, class.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    /// The rows of Redis' own manual, and its odd corners.
    #[test]
    fn patterns_mean_what_they_mean_in_redis() {
        let rows: [(&str, &[&str], &[&str]); 16] = [
            ("h?llo", &["hello", "hallo", "hxllo"], &["hllo", "heello"]),
            ("h*llo", &["hllo", "heeeello"], &["hll", "xhllo"]),
            ("h[ae]llo", &["hello", "hallo"], &["hillo", "hllo"]),
            ("h[^e]llo", &["hallo", "hbllo"], &["hello"]),
            ("h[a-b]llo", &["hallo", "hbllo"], &["hcllo"]),
            ("h[b-a]llo", &["hallo", "hbllo"], &["hcllo"]),
            (r"h\*llo", &["h*llo"], &["hello", r"h\*llo"]),
            (r"a\", &[r"a\"], &["a"]),
            (r"[\]]", &["]"], &[r"\"]),
            ("[]", &[], &["", "]", "["]),
            ("[ab", &["a", "b"], &["[ab", "ab"]),
            ("[^]x", &["ax", "]x"], &["x"]),
            ("*", &["", "a", "anything"], &[]),
            ("a*b*c", &["abc", "aXbXbc"], &["ab", "acb"]),
            ("**a**", &["a", "xax"], &["", "x"]),
            ("", &[""], &["a"]),
        ];
        for (pattern, yes, no) in rows {
            for text in yes {
                assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} and {text}");
            }
            for text in no {
                assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} and {text}");
            }
        }
    }

    /// Exponential matchers need the age of the universe for this one (S89).
    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = [b"a*".repeat(60), b"b".to_vec()].concat();
        assert!(!matches(&pattern, &[b'a'; 1024]));
    }

    /// The definition, with all its ways to go: a star stands for nothing or for one byte more.
    fn naively(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], _) => text.is_empty(),
            ([b'*', behind @ ..], [_, later @ ..]) => {
                naively(behind, text) || naively(pattern, later)
            }
            ([b'*', behind @ ..], []) => naively(behind, text),
            (_, []) => false,
            (_, [byte, later @ ..]) => match_one(pattern, *byte)
                .is_some_and(|(holds, bytes)| holds && naively(&pattern[bytes..], later)),
        }
    }

    proptest! {
        /// One place to go back to finds what all of them would find.
        #[test]
        fn one_star_to_go_back_to_is_enough(
            pattern in proptest::collection::vec(select(b"ab*?[]^-\\".to_vec()), 0..9),
            text in proptest::collection::vec(select(b"ab]\\".to_vec()), 0..9),
        ) {
            let holds = matches(&pattern, &text);
            prop_assert_eq!(holds, naively(&pattern, &text));
            prop_assert!(!holds || text.starts_with(&literal_prefix(&pattern)));
        }

        /// Any bytes may be a pattern.
        #[test]
        fn any_bytes_can_be_a_pattern(
            pattern in proptest::collection::vec(any::<u8>(), 0..20),
            text in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            prop_assert_eq!(matches(&pattern, &text), naively(&pattern, &text));
        }
    }
}
