//! Text between people, models and XML.

use std::borrow::Cow;

/// Most bytes of one message body, counted as escaped XML: far below every server's stanza limit, envelope included.
pub(crate) const MAX_BODY_BYTES: usize = 120 * 1024;

/// Removes what XML 1.0 cannot carry (its production 2, `Char`): models and users do send escape sequences and NUL.
pub(crate) fn xml(text: &str) -> Cow<'_, str> {
    let legal = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
    if text.chars().all(legal) { Cow::Borrowed(text) } else { Cow::Owned(text.chars().filter(|c| legal(*c)).collect()) }
}

fn escaped_len(c: char) -> usize {
    match c {
        '&' => 5,
        '<' | '>' => 4,
        '"' | '\'' | '\r' => 6,
        other => other.len_utf8(),
    }
}

/// Cuts a text into bodies of at most `limit` escaped bytes, at the last paragraph, line or word end where one is near.
pub(crate) fn split(text: &str, limit: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let mut size = 0;
        let cut = rest.char_indices().find_map(|(at, c)| {
            size += escaped_len(c);
            (size > limit).then_some(at)
        });
        let Some(cut) = cut else { break };
        // At least one character, or a tiny limit would never end.
        let cut = if cut == 0 { rest.chars().next().map_or(rest.len(), char::len_utf8) } else { cut };
        let window = &rest[..cut];
        let near = |at: usize| at > cut / 2;
        let end = (window.rfind("\n\n").map(|at| at + 2).filter(|at| near(*at)))
            .or_else(|| window.rfind('\n').map(|at| at + 1).filter(|at| near(*at)))
            .or_else(|| window.rfind(' ').map(|at| at + 1).filter(|at| near(*at)))
            .unwrap_or(cut);
        parts.push(&rest[..end]);
        rest = &rest[end..];
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(rest);
    }
    parts
}

/// Removes the ranges (in code points, end exclusive) from a text. Ranges that are no ranges are ignored.
pub(crate) fn without(text: &str, ranges: &[(usize, usize)]) -> String {
    text.chars()
        .enumerate()
        .filter(|(index, _)| !ranges.iter().any(|(start, end)| (*start..*end).contains(index)))
        .map(|(_, c)| c)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_xml_cannot_carry_is_removed() {
        assert_eq!(xml("a\u{0}b\u{1b}[1m\u{fffe}c\n\u{1f600}"), "ab[1mc\n\u{1f600}");
    }

    #[test]
    fn a_cut_prefers_the_end_of_a_paragraph_then_of_a_word() {
        assert_eq!(split("aaa bbb\n\nccc ddd", 12), ["aaa bbb\n\n", "ccc ddd"]);
        assert_eq!(split("aaaa bbbb cccc", 10), ["aaaa bbbb ", "cccc"]);
        assert_eq!(split("", 10), [""]);
    }

    #[test]
    fn ranges_count_code_points() {
        assert_eq!(without("> \u{1f600}\u{1f600}\nyes", &[(0, 5)]), "yes");
        assert_eq!(without("yes", &[(2, 1), (9, 12)]), "yes");
    }

    proptest! {
        #[test]
        fn no_character_is_lost_and_no_part_is_too_long(text in "\\PC{0,400}", limit in 7usize..60) {
            let parts = split(&text, limit);
            prop_assert_eq!(&parts.concat(), &text);
            for part in parts {
                prop_assert!(part.chars().map(escaped_len).sum::<usize>() <= limit);
            }
        }
    }
}
