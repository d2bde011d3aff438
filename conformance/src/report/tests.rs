use super::*;
use crate::requirement::requirements;

fn report(first: Verdict, expected: Option<&str>) -> Report {
    let of = |index: usize, verdict| Judgement::of(&requirements()[index], verdict, Some("a < b & \"c\"\u{1}".into()));
    let mut judged = vec![of(0, first), of(1, Verdict::Pass), of(2, Verdict::NotRun)];
    judged[0].expected = expected.map(str::to_owned);
    let profiles = vec![Profile::Core];
    Report {
        suite: "1".into(),
        target: "http://hub-a.example/".into(),
        hub: "1".into(),
        profiles,
        judged,
        left: Vec::new(),
        took: Duration::ZERO,
    }
}

#[test]
fn the_exit_code_tells_conformant_from_not_and_from_not_judged() {
    assert_eq!(report(Verdict::Pass, None).exit_code(), 0);
    assert_eq!(report(Verdict::Fail, None).exit_code(), 1);
    assert_eq!(report(Verdict::Fail, Some("known")).exit_code(), 0);
    assert_eq!(report(Verdict::Pass, Some("known")).exit_code(), 1, "an unexpected pass");
    assert_eq!(report(Verdict::Error, None).exit_code(), 2);
    assert_eq!(report(Verdict::NotRun, None).exit_code(), 0);
}

#[test]
fn a_second_look_is_told() {
    let mut report = report(Verdict::Pass, None);
    assert!(!terminal(&report).contains("second look"));
    report.judged[0].first_look = Some("a peer was changed meanwhile".into());
    assert!(terminal(&report).contains("a peer was changed meanwhile"));
    assert_eq!(report.exit_code(), 0);
}

#[test]
fn what_is_written_is_escaped() {
    let report = report(Verdict::Fail, None);
    for text in [junit(&report), html(&report)] {
        assert!(text.contains("a &lt; b &amp; &quot;c&quot;"), "{text}");
        assert!(!text.contains('\u{1}'));
    }
    assert!(terminal(&report).contains(&requirements()[0].text));
}

#[test]
fn lines_hold_nothing_that_changes() {
    let text = lines(&report(Verdict::Fail, Some("known")));
    assert_eq!(text.lines().count(), 3);
    assert!(
        text.starts_with("{\"id\":\"TEN-001\",\"level\":\"MUST\",\"profile\":\"core\",\"verdict\":\"fail\",\"expected\":\"known\"}"),
        "{text}"
    );
}
