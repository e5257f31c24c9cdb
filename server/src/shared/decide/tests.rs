//! Every row of the decision, as a table.

use super::*;

const A: Digest = [b'A'; 32];
const B: Digest = [b'B'; 32];
const C: Digest = [b'C'; 32];

/// `agreed here there` as letters, `-` for nothing: the question of a pair that may be given, under "first".
fn question(contents: &str) -> Question {
    let content = |letter: &str| match letter {
        "-" => None,
        letter => Some([letter.as_bytes()[0]; 32]),
    };
    let [agreed, here, there] = contents.split(' ').collect::<Vec<_>>()[..] else { panic!("three letters") };
    let end = |letter| content(letter).map_or(End::NONE, End::whole);
    Question {
        kind: Kind::Conf,
        agreed: content(agreed),
        intent: None,
        here: end(here),
        there: end(there),
        may_give: true,
        uploads: Uploads::First,
        was_before: false,
        is_back: false,
        pushed: false,
        lost_here: false,
        lost_there: false,
    }
}

fn changed(contents: &str) -> Question {
    Question { uploads: Uploads::Changed, ..question(contents) }
}

fn place(digest: Digest, over: Option<Digest>, keep: Option<Why>) -> Step {
    Step::Place { digest, over, keep }
}

#[test]
fn what_is_the_same_at_both_ends_is_left_alone() {
    assert_eq!(decide(&question("- - -")), Step::Rest);
    assert_eq!(decide(&question("A A A")), Step::Rest);
    assert_eq!(decide(&question("A - -")), Step::Forget);
    assert_eq!(decide(&question("- B B")), Step::Agree(B));
    assert_eq!(decide(&question("A B B")), Step::Agree(B));
    let begun = Question { intent: Some(Intent::Down(Some(A))), ..question("A A A") };
    assert_eq!(decide(&begun), Step::Agree(A), "nothing stays begun");
    let unfit = End { fits: false, ..End::whole(A) };
    assert_eq!(decide(&Question { there: unfit, ..question("A A A") }), place(A, Some(A), None));
    let young = End { settled: false, ..unfit };
    assert_eq!(decide(&Question { there: young, ..question("A A A") }), Step::Rest);
    assert_eq!(decide(&Question { there: young, ..question("- A A") }), Step::Agree(A));
}

#[test]
fn what_only_the_central_changed_goes_there() {
    assert_eq!(decide(&question("- B -")), place(B, None, None));
    assert_eq!(decide(&question("A B A")), place(B, Some(A), None));
    assert_eq!(decide(&question("A - A")), Step::Remove { over: A, keep: Why::Removed });
    for uploads in [Uploads::Off, Uploads::Changed] {
        assert_eq!(decide(&Question { uploads, ..question("A B A") }), place(B, Some(A), None));
    }
    for kind in Kind::ALL {
        assert_eq!(decide(&Question { kind, ..question("A B A") }), place(B, Some(A), None));
    }
}

#[test]
fn what_is_withheld_neither_goes_nor_is_overwritten() {
    let withheld = |contents| Question { may_give: false, ..question(contents) };
    assert_eq!(decide(&withheld("- A -")), Step::Withhold);
    assert_eq!(decide(&withheld("- A B")), Step::Withhold);
    assert_eq!(decide(&withheld("- - B")), Step::Take { digest: B, over: None }, "a registration is no gift");
    assert_eq!(decide(&Question { pushed: true, ..withheld("- A -") }), place(A, None, None));
    assert_eq!(
        decide(&Question { pushed: true, ..withheld("- A B") }),
        place(A, Some(B), Some(Why::Conflict))
    );
}

#[test]
fn who_knows_the_digest_of_what_is_withheld_has_to_give_the_content() {
    let withheld = Question { may_give: false, ..question("- B B") };
    assert_eq!(decide(&withheld), Step::Prove { digest: B });
    assert_eq!(Step::Prove { digest: B }.intent(), None);
    let unfit = End { fits: false, ..End::whole(B) };
    assert_eq!(decide(&Question { there: unfit, ..withheld }), Step::Prove { digest: B });
    assert_eq!(decide(&Question { pushed: true, ..withheld }), Step::Agree(B));
    assert_eq!(decide(&Question { agreed: Some(A), ..withheld }), Step::Agree(B), "it was given before");
    let placed = Question { intent: Some(Intent::Down(Some(B))), ..withheld };
    assert_eq!(decide(&placed), Step::Agree(B), "a step that was begun placed it");
}

#[test]
fn a_registration_is_taken_where_that_is_allowed() {
    let take = Step::Take { digest: B, over: None };
    assert_eq!(decide(&question("- - B")), take);
    assert_eq!(decide(&changed("- - B")), take);
    assert_eq!(decide(&Question { was_before: true, ..question("- - B") }), take, "it was removed since");
    assert_eq!(decide(&Question { uploads: Uploads::Off, ..question("- - B") }), Step::Leave);
    for kind in [Kind::Collection, Kind::Command] {
        assert_eq!(decide(&Question { kind, ..changed("- - B") }), Step::Leave);
    }
    let young = End { fits: false, settled: false, ..End::whole(B) };
    assert_eq!(decide(&Question { there: young, ..question("- - B") }), Step::Wait(Waiting::There));
    let old = End { settled: true, ..young };
    assert_eq!(decide(&Question { there: old, ..question("- - B") }), take);
}

#[test]
fn what_only_the_site_changed_is_taken_only_where_it_may_change() {
    assert_eq!(decide(&question("A A B")), place(A, Some(B), Some(Why::NotTaken)));
    assert_eq!(decide(&question("A A -")), place(A, None, None));
    assert_eq!(decide(&changed("A A B")), Step::Take { digest: B, over: Some(A) });
    assert_eq!(decide(&changed("A A -")), Step::Drop { over: A });
    assert_eq!(
        decide(&Question { was_before: true, ..changed("A A B") }),
        place(A, Some(B), Some(Why::Old)),
        "an old file is no change"
    );
    assert_eq!(decide(&Question { lost_there: true, ..changed("A A -") }), place(A, None, None));
    for kind in [Kind::Collection, Kind::Command] {
        assert_eq!(decide(&Question { kind, ..changed("A A B") }), place(A, Some(B), Some(Why::NotTaken)));
        assert_eq!(decide(&Question { kind, ..changed("A A -") }), place(A, None, None));
    }
    let young = End { fits: false, settled: false, ..End::whole(B) };
    assert_eq!(decide(&Question { there: young, ..changed("A A B") }), Step::Wait(Waiting::There));
}

#[test]
fn where_both_changed_the_central_wins_and_the_loser_is_kept() {
    for question in [question, changed] {
        assert_eq!(decide(&question("- A B")), place(A, Some(B), Some(Why::Conflict)));
        assert_eq!(decide(&question("A B C")), place(B, Some(C), Some(Why::Conflict)));
        assert_eq!(decide(&question("A - C")), Step::Remove { over: C, keep: Why::Conflict });
        assert_eq!(decide(&question("A B -")), place(B, None, None));
        assert_eq!(
            decide(&Question { was_before: true, ..question("A B C") }),
            place(B, Some(C), Some(Why::Old))
        );
    }
}

#[test]
fn what_is_being_written_here_goes_nowhere() {
    let young = |contents, here: End| Question { here: End { settled: false, ..here }, ..question(contents) };
    for contents in ["- B -", "A B A", "A B C", "A B -"] {
        assert_eq!(decide(&young(contents, End::whole(B))), Step::Wait(Waiting::Here), "{contents}");
        let pushed = Question { pushed: true, ..young(contents, End::whole(B)) };
        assert_eq!(decide(&pushed), Step::Wait(Waiting::Here), "{contents}");
    }
    assert_eq!(decide(&young("A - A", End::NONE)), Step::Wait(Waiting::Here), "replaced by removing first");
}

#[test]
fn an_end_that_lost_everything_has_removed_nothing() {
    let lost = |contents| Question { lost_here: true, ..question(contents) };
    assert_eq!(decide(&lost("A - A")), Step::Wait(Waiting::LostHere));
    assert_eq!(decide(&lost("A - B")), Step::Wait(Waiting::LostHere));
    assert_eq!(decide(&lost("- - B")), Step::Take { digest: B, over: None });
    let meant = Question { pushed: true, ..lost("A - A") };
    assert_eq!(decide(&meant), Step::Remove { over: A, keep: Why::Removed });
}

#[test]
fn more_missing_than_anybody_removes_at_once_is_lost_each_kind_for_itself() {
    let has_lost = |agreed, missing| {
        let mut census = Census::default();
        (0..agreed).for_each(|n| census.count(Kind::Collection, n >= missing));
        (0..50).for_each(|_| census.count(Kind::Conf, true));
        assert!(!census.has_lost(Kind::Conf) && !census.has_lost(Kind::Command));
        census.has_lost(Kind::Collection)
    };
    for (agreed, missing) in [(1, 1), (3, 2), (3, 3), (10, 3), (39, 3), (50, 5), (1000, 100)] {
        assert!(!has_lost(agreed, missing), "{missing} of {agreed} were removed");
    }
    for (agreed, missing) in [(4, 4), (10, 4), (39, 4), (50, 6), (1000, 101), (1000, 1000)] {
        assert!(has_lost(agreed, missing), "{missing} of {agreed} are lost");
    }
}

#[test]
fn what_an_old_content_here_replaces_there_is_kept() {
    let back = |contents| Question { is_back: true, ..question(contents) };
    assert_eq!(decide(&back("A B A")), place(B, Some(A), Some(Why::Reverted)));
    assert_eq!(decide(&Question { pushed: true, ..back("A B A") }), place(B, Some(A), Some(Why::Reverted)));
    assert_eq!(decide(&back("A B C")), place(B, Some(C), Some(Why::Conflict)), "as ever");
    assert_eq!(decide(&back("A B -")), place(B, None, None), "nothing is lost");
}

#[test]
fn what_was_begun_and_came_to_pass_counts_as_agreed() {
    let begun = |contents, intent| Question { intent: Some(intent), ..changed(contents) };
    let up = begun("A B C", Intent::Up(Some(B)));
    assert_eq!(decide(&up), Step::Take { digest: C, over: Some(B) }, "it changed again after it was taken");
    let down = begun("A C B", Intent::Down(Some(B)));
    assert_eq!(decide(&down), place(C, Some(B), None), "no conflict: it was placed");
    let dropped = begun("A - C", Intent::Up(None));
    assert_eq!(decide(&dropped), Step::Take { digest: C, over: None });
    let removed = begun("A B -", Intent::Down(None));
    assert_eq!(decide(&removed), place(B, None, None));
    let failed = begun("A A C", Intent::Up(Some(C)));
    assert_eq!(decide(&failed), Step::Take { digest: C, over: Some(A) });
    assert_eq!(decide(&begun("- - -", Intent::Down(None))), Step::Forget);
}

#[test]
fn only_what_acts_is_remembered_before_it_is_done() {
    assert_eq!(place(A, Some(A), None).intent(), None, "only the .md5 is written");
    assert_eq!(place(A, None, None).intent(), Some(Intent::Down(Some(A))));
    assert_eq!(Step::Remove { over: A, keep: Why::Removed }.intent(), Some(Intent::Down(None)));
    assert_eq!(Step::Take { digest: A, over: None }.intent(), Some(Intent::Up(Some(A))));
    assert_eq!(Step::Drop { over: A }.intent(), Some(Intent::Up(None)));
    assert_eq!(Step::Agree(A).intent(), None);
}

#[test]
fn reasons_have_words_that_are_read_back() {
    for (why, word) in Why::ALL {
        assert_eq!((why.as_str(), Why::parse(word)), (word, Some(why)));
    }
    assert_eq!(Why::parse("else"), None);
}
