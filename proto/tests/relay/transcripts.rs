//! Whole connections at both ends, byte for byte.

use tidegate_proto::relay::Purpose;

use crate::script::at_both_ends;

pub(crate) const HELLO: &str = "
    P> 01 000037 0001 PURPOSE 01 0000000000000003 00002710 00000000000f4240 0000000000000000 0000018bcfe56800
    P> 07 63656e7472616c 06 746573742031
";
const WELCOME: &str = "
    n! welcome
    N> 11 000032 0001 0000000000000003 01 0000000000000007 0000000000000001 0000018bcfe56801
    N> 07 706c616e742d37 06 746573742032
    p= welcome epoch 3
";

/// A connection that begins as it should.
pub(crate) fn welcomed(purpose: Purpose, script: &str) {
    let (purpose_byte, name) = match purpose {
        Purpose::Stream => ("01", "Stream"),
        Purpose::List => ("02", "List"),
        Purpose::Look => ("03", "Look"),
        Purpose::Shared => ("04", "Shared"),
    };
    let hello = HELLO.replace("PURPOSE", purpose_byte);
    at_both_ends(purpose, &format!("{hello} n= hello {name} epoch 3 {WELCOME} {script}"));
}

#[test]
fn a_stream_and_a_rest_and_more() {
    welcomed(
        Purpose::Stream,
        "
        p! grant 1048576
        P> 02 000008 0000000000100000
        n= room
        n! package 12 abc
        n! skip 13 2000000
        n! package 14 d
        n! dry
        N> data 01 0000000000000007 000000000000000c 0000018bcfe5680c 0000000000000003 6a99b4b1f77dd0fc 0d 6167656e742d31322e64617461 616263 02 0000000000000007 000000000000000d 0000018bcfe5680d 00000000001e8480 08d12e6b76c84d11 0d 6167656e742d31332e64617461 01 0000000000000007 000000000000000e 0000018bcfe5680e 0000000000000001 a708a824f612c926 0d 6167656e742d31342e64617461 64 end
        N> 13 000000
        p= decoder needed
        p! decoder
        p= package 12 agent-12.data 3
        p= body abc
        p= end
        p= skipped 13 agent-13.data 2000000
        p= package 14 agent-14.data 1
        p= body d
        p= end
        p= decoder freed
        p= dry
        p! ack 13
        P> 03 000010 0000000000000007 000000000000000d
        n= acked 13
        n! deleted 13
        N> 14 000010 0000000000000007 000000000000000d
        p= deleted 13
        # Soon after another: the zstd frame goes on for a while.
        + 100
        n! package 15 e
        n! dry
        N> data 01 0000000000000007 000000000000000f 0000018bcfe5680f 0000000000000001 454021de755d453b 0d 6167656e742d31352e64617461 65
        N> 13 000000
        p= decoder needed
        p! decoder
        p= package 15 agent-15.data 1
        p= body e
        p= end
        p= dry
        + 100
        + 100
        N> data end
        p= decoder freed
        p! ack 15
        P> 03 000010 0000000000000007 000000000000000f
        n= acked 15
        p! close
        P> 23 000009 00 0000000000000000
        p/ this end ended the connection: done
        n/ the peer ended the connection: done
        ",
    );
}

#[test]
fn credit_that_ends_with_a_record_or_before_one() {
    welcomed(
        Purpose::Stream,
        "
        p! grant 1027
        P> 02 000008 0000000000000403
        n= room
        n! package 16 abc
        N> data 01 0000000000000007 0000000000000010 0000018bcfe56810 0000000000000003 e3779b97f4a7c150 0d 6167656e742d31362e64617461 616263
        p= decoder needed
        p! decoder
        p= package 16 agent-16.data 3
        p= body abc
        p= end
        + 200
        N> data end
        p= decoder freed
        p! grant 2000
        P> 02 000008 00000000000007d0
        p! grant 2054
        P> 02 000008 0000000000000806
        n= room
        n! package 17 def
        N> data 01 0000000000000007 0000000000000011 0000018bcfe56811 0000000000000003 81af155173f23d65 0d 6167656e742d31372e64617461 646566
        p= decoder needed
        p! decoder
        p= package 17 agent-17.data 3
        p= body def
        p= end
        ",
    );
}

#[test]
fn a_decoder_is_asked_back() {
    welcomed(
        Purpose::Stream,
        "
        p! grant 1027
        P> 02 000008 0000000000000403
        n= room
        n! package 16 abc
        N> data 01 0000000000000007 0000000000000010 0000018bcfe56810 0000000000000003 e3779b97f4a7c150 0d 6167656e742d31362e64617461 616263
        p= decoder needed
        p! yield
        p! decoder
        p= package 16 agent-16.data 3
        p= body abc
        p= end
        p! yield
        P> 86 000000
        N> data end
        p= decoder freed
        p! yield
        ",
    );
}

#[test]
fn losses_and_status() {
    welcomed(
        Purpose::Stream,
        "
        n! losses 5 2
        N> 15 000036 0000000000000007 0000000000000005 01 0000000000000002 0000000000000009
        N> 0000000000000001 0000000000000002 04 64617461
        p= losses data 2
        n! status 7
        N> 91 000009 01 0000000000000007
        p= status Some(7) packages
        p! ack_losses 5
        P> 04 000010 0000000000000007 0000000000000005
        n= losses acked 5
        n! close
        N> 23 000009 08 0000000000000000
        n/ this end ended the connection: stopping
        p/ the peer ended the connection: stopping
        ",
    );
}

#[test]
fn a_listing() {
    welcomed(
        Purpose::List,
        "
        p! list
        P> 05 000000
        n= list
        n= room
        n! listing a.data b.data
        N> 16 00000e 01 612e646174610a622e64617461
        p= listing a.data b.data true
        p! list
        P> 05 000000
        n= list
        n= room
        n! listing c
        N> 16 000002 01 63
        p= listing c true
        P/
        n/ the peer closed the connection without saying why
        ",
    );
}

#[test]
fn a_look() {
    welcomed(
        Purpose::Look,
        "
        p! close
        P> 23 000009 00 0000000000000000
        p/ done
        n/ done
        ",
    );
}

#[test]
fn a_refusal_says_nothing_else() {
    let hello = HELLO.replace("PURPOSE", "01");
    at_both_ends(
        Purpose::Stream,
        &format!(
            "{hello}
            n= hello Stream epoch 3
            n! refuse
            N> 23 00000c 03 0000000000000004 6f6c64
            n/ this end ended the connection: epoch_too_low (4): old
            p/ the peer ended the connection: epoch_too_low (4): old
            "
        ),
    );
}

#[test]
fn signs_of_life() {
    welcomed(
        Purpose::Look,
        "
        + 3333
        + 1
        P> 21 000008 0000000000000001
        N> 21 000008 0000000000000001
        N> 22 000008 0000000000000001
        P> 22 000008 0000000000000001
        ",
    );
}
