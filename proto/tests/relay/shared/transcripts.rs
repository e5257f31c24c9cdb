//! The dialogue about shared files at both ends, byte for byte: every request, every answer.

use tidegate_proto::relay::Purpose;

use crate::script::at_both_ends;
use crate::transcripts::{HELLO, welcomed};

fn shared(script: &str) {
    welcomed(Purpose::Shared, script);
}

#[test]
fn what_there_is() {
    let summary = format!("N> 17 002000 {} 0000000000000005 {}", "00".repeat(24), "00".repeat(8 * 1020));
    shared(&format!(
        "
        p! ask summary
        P> 06 000000
        n= asked summary
        n! tell buckets 3 5
        {summary}
        p= told buckets [(3, 5)]
        p! ask look_into 3 1023
        P> 07 000004 0003 03ff
        n= asked look_into [3, 1023]
        n! tell items a.conf b.zip false
        N> 18 000060 00 01 0000000000000001 {one} 06 612e636f6e66 01 0000000000000002 {two} 05 622e7a6970
        p= told items [a.conf 01 1 true, b.zip 02 2 true] false
        n! tell items c.rcmd true
        N> 18 000031 01 01 0000000000000001 {one} 06 632e72636d64
        p= told items [c.rcmd 01 1 true] true
        p! ask look_into 7
        P> 07 000002 0007
        n= asked look_into [7]
        n! tell items true
        N> 18 000001 01
        p= told items [] true
        ",
        one = "01".repeat(32),
        two = "02".repeat(32),
    ));
}

#[test]
fn a_file_is_fetched() {
    shared(
        "
        p! ask fetch a.conf aa 0
        P> 08 00002f aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 0000000000000000 06 612e636f6e66
        n= asked fetch a.conf aa 0
        n! tell content end abc
        N> 19 000004 01 616263
        p= told content End abc
        p! ask fetch a.conf aa 3
        P> 08 00002f aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 0000000000000003 06 612e636f6e66
        n= asked fetch a.conf aa 3
        n! tell content end
        N> 19 000001 01
        p= told content End
        p! ask fetch a.conf aa 0
        P> 08 00002f aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 0000000000000000 06 612e636f6e66
        n= asked fetch a.conf aa 0
        n! tell content another
        N> 19 000001 02
        p= told content Another
        ",
    );
}

#[test]
fn a_file_is_placed_over_another() {
    shared(
        "
        p! ask place a.conf aa bb 5
        P> 09 000050 01 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 0000000000000005 06 612e636f6e66
        n= asked place a.conf aa bb 5
        n! tell go_on 0
        N> 1a 00002a 00 0000000000000000 00 0000000000000000000000000000000000000000000000000000000000000000
        p= told go_on 0 -
        p! ask part abc
        P> 0a 000003 616263
        n= asked part abc
        n! tell go_on 3
        N> 1a 00002a 00 0000000000000003 00 0000000000000000000000000000000000000000000000000000000000000000
        p= told go_on 3 -
        p! ask part de
        P> 0a 000002 6465
        n= asked part de
        n! tell done
        N> 1a 00002a 01 0000000000000000 00 0000000000000000000000000000000000000000000000000000000000000000
        p= told done 0 -
        # It is there already.
        p! ask place a.conf aa bb 5
        P> 09 000050 01 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 0000000000000005 06 612e636f6e66
        n= asked place a.conf aa bb 5
        n! tell done
        N> 1a 00002a 01 0000000000000000 00 0000000000000000000000000000000000000000000000000000000000000000
        p= told done 0 -
        # A new one, of nothing.
        p! ask place a.conf - bb 0
        P> 09 000050 00 0000000000000000000000000000000000000000000000000000000000000000 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 0000000000000000 06 612e636f6e66
        n= asked place a.conf - bb 0
        n! tell done
        N> 1a 00002a 01 0000000000000000 00 0000000000000000000000000000000000000000000000000000000000000000
        p= told done 0 -
        ",
    );
}

#[test]
fn a_large_file_is_gone_on_with() {
    shared(
        "
        p! ask place a.conf - bb 49153
        P> 09 000050 00 0000000000000000000000000000000000000000000000000000000000000000 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 000000000000c001 06 612e636f6e66
        n= asked place a.conf - bb 49153
        n! tell go_on 49150
        N> 1a 00002a 00 000000000000bffe 00 0000000000000000000000000000000000000000000000000000000000000000
        p= told go_on 49150 -
        p! ask part abc
        P> 0a 000003 616263
        n= asked part abc
        n! tell damaged
        N> 1a 00002a 05 0000000000000000 00 0000000000000000000000000000000000000000000000000000000000000000
        p= told damaged 0 -
        ",
    );
}

#[test]
fn all_at_once_and_only_some_of_it_wanted() {
    shared(
        "
        p! ask place a.conf aa bb 5
        p! ask part abc
        p! ask part de
        p! ask remove a.conf aa
        P> 09 000050 01 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 0000000000000005 06 612e636f6e66
        P> 0a 000003 616263
        P> 0a 000002 6465
        P> 0b 000027 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 06 612e636f6e66
        n= asked place a.conf aa bb 5
        n! tell changed cc
        N> 1a 00002a 02 0000000000000000 01 cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc
        N> 1a 00002a 04 0000000000000000 00 0000000000000000000000000000000000000000000000000000000000000000
        N> 1a 00002a 04 0000000000000000 00 0000000000000000000000000000000000000000000000000000000000000000
        p= told changed 0 cc
        p= told ignored 0 -
        p= told ignored 0 -
        n= asked remove a.conf aa
        n! tell changed -
        N> 1a 00002a 02 0000000000000000 00 0000000000000000000000000000000000000000000000000000000000000000
        p= told changed 0 -
        ",
    );
}

#[test]
fn what_is_refused_on_the_way_is_not_gone_on_with() {
    shared(
        "
        p! ask place a.conf - bb 5
        p! ask part abc
        p! ask part de
        P> 09 000050 00 0000000000000000000000000000000000000000000000000000000000000000 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 0000000000000005 06 612e636f6e66
        P> 0a 000003 616263
        P> 0a 000002 6465
        n= asked place a.conf - bb 5
        n! tell go_on 0
        N> 1a 00002a 00 0000000000000000 00 0000000000000000000000000000000000000000000000000000000000000000
        p= told go_on 0 -
        n= asked part abc
        n! tell refused no room
        N> 1a 000031 03 0000000000000000 00 0000000000000000000000000000000000000000000000000000000000000000 6e6f20726f6f6d
        N> 1a 00002a 04 0000000000000000 00 0000000000000000000000000000000000000000000000000000000000000000
        p= told refused 0 - no room
        p= told ignored 0 -
        p! ask part fg
        P> 0a 000002 6667
        N> 1a 00002a 04 0000000000000000 00 0000000000000000000000000000000000000000000000000000000000000000
        p= told ignored 0 -
        p! ask place a.conf - bb 5
        P> 09 000050 00 0000000000000000000000000000000000000000000000000000000000000000 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 0000000000000005 06 612e636f6e66
        n= asked place a.conf - bb 5
        n! tell refused too large
        N> 1a 000033 03 0000000000000000 00 0000000000000000000000000000000000000000000000000000000000000000 746f6f206c61726765
        p= told refused 0 - too large
        ",
    );
}

#[test]
fn another_request_ends_the_placing() {
    shared(
        "
        p! ask place a.conf - bb 5
        p! ask remove b.conf aa
        p! ask part abc
        P> 09 000050 00 0000000000000000000000000000000000000000000000000000000000000000 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 0000000000000005 06 612e636f6e66
        P> 0b 000027 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 06 622e636f6e66
        P> 0a 000003 616263
        n= asked place a.conf - bb 5
        n! tell go_on 0
        N> 1a 00002a 00 0000000000000000 00 0000000000000000000000000000000000000000000000000000000000000000
        p= told go_on 0 -
        n= asked remove b.conf aa
        n! tell done
        N> 1a 00002a 01 0000000000000000 00 0000000000000000000000000000000000000000000000000000000000000000
        N> 1a 00002a 04 0000000000000000 00 0000000000000000000000000000000000000000000000000000000000000000
        p= told done 0 -
        p= told ignored 0 -
        ",
    );
}

#[test]
fn what_is_there_is_looked_at_to_the_last() {
    shared(
        "
        p! ask place a.conf - bb 3
        p! ask part abc
        P> 09 000050 00 0000000000000000000000000000000000000000000000000000000000000000 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 0000000000000003 06 612e636f6e66
        P> 0a 000003 616263
        n= asked place a.conf - bb 3
        n! tell go_on 0
        N> 1a 00002a 00 0000000000000000 00 0000000000000000000000000000000000000000000000000000000000000000
        p= told go_on 0 -
        n= asked part abc
        n! tell changed aa
        N> 1a 00002a 02 0000000000000000 01 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
        p= told changed 0 aa
        ",
    );
}

#[test]
fn a_file_is_removed() {
    shared(
        "
        p! ask remove a.conf aa
        P> 0b 000027 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 06 612e636f6e66
        n= asked remove a.conf aa
        n! tell done
        N> 1a 00002a 01 0000000000000000 00 0000000000000000000000000000000000000000000000000000000000000000
        p= told done 0 -
        p! ask remove a.conf aa
        P> 0b 000027 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 06 612e636f6e66
        n= asked remove a.conf aa
        n! tell refused not one of ours
        N> 1a 000039 03 0000000000000000 00 0000000000000000000000000000000000000000000000000000000000000000 6e6f74206f6e65206f66206f757273
        p= told refused 0 - not one of ours
        ",
    );
}

#[test]
fn a_farewell_leaves_requests_unanswered() {
    shared(
        "
        p! ask summary
        P> 06 000000
        n= asked summary
        n! close
        N> 23 000009 08 0000000000000000
        n/ stopping
        p/ stopping
        ",
    );
}

#[test]
fn signs_of_life_go_on_while_an_answer_is_due() {
    shared(
        "
        p! ask summary
        P> 06 000000
        n= asked summary
        + 3334
        P> 21 000008 0000000000000001
        N> 21 000008 0000000000000001
        P> 22 000008 0000000000000001
        # What has come since the request is read after its answer.
        n! close
        N> 23 000009 08 0000000000000000
        n/ stopping
        p/ stopping
        ",
    );
}

#[test]
fn it_is_not_offered() {
    let hello = HELLO.replace("PURPOSE", "04");
    at_both_ends(
        Purpose::Shared,
        &format!(
            "{hello}
            n= hello Shared epoch 3
            p! ask summary
            P> 06 000000
            n! refuse not_offered
            N> 23 000009 0b 0000000000000000
            n/ this end ended the connection: not_offered
            p/ the peer ended the connection: not_offered
            "
        ),
    );
}
