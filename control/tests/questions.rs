//! The documentation of the questions against the questions.
#![expect(clippy::unwrap_used, reason = "tests")]

use keepshare_control::questions::ALL;

/// Whoever writes a program against the page must find every question there, and none that is not answered.
#[test]
fn every_question_is_on_the_page_with_its_callers() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/formats/control.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section = page.split("\n## ").find(|section| section.starts_with("Questions\n")).unwrap();
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let documented: Vec<_> =
        rows.iter().map(|row| (row[1].trim_matches('`'), row[2], row[3])).collect();
    let changes = |changes| if changes { "yes" } else { "no" };
    let asked: Vec<_> =
        ALL.iter().map(|q| (q.name, q.callers.word(), changes(q.changes))).collect();
    assert_eq!(documented, asked);
}
