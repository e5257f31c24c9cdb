//! Every row of the protocol's command table, at both ends, byte for byte.

mod script;

use script::{at_both_ends, at_both_ends_with, at_client, at_client_with, at_server, at_server_with};

mod pass {
    use super::*;

    #[test]
    fn opens_a_session() {
        at_both_ends_with(
            "secret",
            r"
            C: PASS 9e769017c85f064977fe6a658f207fa6
            S: PASS OK
            c= ready
            c! receive a plain
            C: RECV <a>
            s= fetch a plain
            s! refuse NotFound
            S: RECV ERR (file does not exist)
            c= refused RECV ERR (file does not exist)
            ",
        );
    }

    #[test]
    fn wrong_closes_without_a_word() {
        for digest in [
            "ced33a2ae06e9cbf6a66fe376cef5ba2",
            "9E769017C85F064977FE6A658F207FA6",
            "9e769017c85f064977fe6a658f207fa",
            "9e769017c85f064977fe6a658f207fa66",
            "secret",
            r"\x20",
        ] {
            at_server_with(Some("secret"), &format!("C: PASS {digest}\n s/ wrong password"));
        }
        at_client_with(
            Some("wrong"),
            "C: PASS ced33a2ae06e9cbf6a66fe376cef5ba2 \n S/ \n c/ wrong or missing password",
        );
    }

    #[test]
    fn missing_closes_without_a_word() {
        for command in ["SEND <a> SIZE 3", "SEND <?> SIZE 3", "RECV <a>", "LS <.>", "MV <a>", "QUIT"] {
            at_server_with(Some("secret"), &format!("C: {command}\n s/ gave no password"));
        }
        at_client("c= ready \n c! list . \n C: LS <.> \n S/ \n c/ wrong or missing password");
    }

    #[test]
    fn unexpected_closes_without_a_word() {
        at_server("C: PASS 9e769017c85f064977fe6a658f207fa6 \n s/ not asked for");
        at_server_with(
            Some("secret"),
            r"
            C: PASS 9e769017c85f064977fe6a658f207fa6
            S: PASS OK
            C: PASS 9e769017c85f064977fe6a658f207fa6
            s/ not asked for
            ",
        );
    }

    #[test]
    fn may_come_in_one_packet_with_a_command() {
        at_server_with(
            Some("secret"),
            r"
            C. PASS 9e769017c85f064977fe6a658f207fa6\nSEND <a> SIZE 3\nabc
            S: PASS OK
            s= offer a 3 plain
            s! accept
            S: SEND OK
            s= body abc
            s= end
            ",
        );
    }

    #[test]
    fn other_answers_close_the_client() {
        at_client_with(
            Some("secret"),
            r#"
            C: PASS 9e769017c85f064977fe6a658f207fa6
            S: PASS ERR
            c/ "PASS" is no answer to PASS
            "#,
        );
    }
}

mod send {
    use super::*;

    #[test]
    fn stores_a_file() {
        at_both_ends(
            r"
            c= ready
            c! send web01.1700000000.data 9 plain
            C: SEND <web01.1700000000.data> SIZE 9
            s= offer web01.1700000000.data 9 plain
            s! accept
            S: SEND OK
            c= accepted
            c! body <a>b
            C. <a>b
            c! body </a>\n
            C. </a>\n
            s= body <a>b</a>\x0a
            s= end
            # Nothing is said before the file is durable.
            s! confirm
            S: SEND OK
            c= stored
            c! quit
            C: QUIT
            s= quit
            s/ QUIT
            S/
            c/ QUIT
            ",
        );
    }

    #[test]
    fn zsend_stores_an_archive() {
        at_both_ends(
            r"
            c= ready
            c! send a.1.data 4 zip
            C: ZSEND <a.1.data> SIZE 4
            s= offer a.1.data 4 zip
            s! accept
            S: ZSEND OK
            c= accepted
            c! body PK\x03\x04
            C. PK\x03\x04
            s= body PK\x03\x04
            s= end
            s! confirm
            S: ZSEND OK
            c= stored
            ",
        );
    }

    #[test]
    fn an_archive_that_does_not_unzip_is_refused_barely() {
        at_both_ends(
            r"
            c= ready
            c! send a.1.data 4 zip
            C: ZSEND <a.1.data> SIZE 4
            s= offer a.1.data 4 zip
            s! accept
            S: ZSEND OK
            c= accepted
            c! body abcd
            C. abcd
            s= body abcd
            s= end
            s! refuse Bare
            S: ZSEND ERR
            c= refused ZSEND ERR
            ",
        );
    }

    #[test]
    fn names_are_refused_before_any_ok() {
        for (verb, packing) in [("SEND", "plain"), ("ZSEND", "zip")] {
            for name in ["a?b", "..", "", "a/b", r"a\x5cb", " a", r"a\x09b", &"n".repeat(201)] {
                at_server(&format!(
                    r"
                    C: {verb} <{name}> SIZE 3
                    S: {verb} ERR (invalid file name)
                    s= refused {verb} {name} 3 InvalidName
                    # The session stays usable.
                    C: {verb} <a> SIZE 3
                    s= offer a 3 {packing}
                    ",
                ));
            }
        }
    }

    #[test]
    fn the_client_hears_the_reason() {
        for reason in ["invalid file name", "file is too big", "file already exists", "storage full"] {
            at_client(&format!(
                r"
                c= ready
                c! send a.1.data 3 plain
                C: SEND <a.1.data> SIZE 3
                S: SEND ERR ({reason})
                c= refused SEND ERR ({reason})
                # The session stays usable.
                c! send a.2.data 3 plain
                C: SEND <a.2.data> SIZE 3
                "
            ));
        }
    }

    #[test]
    fn sizes_are_refused_before_any_ok() {
        for verb in ["SEND", "ZSEND"] {
            for size in ["0", "00", "101", "18446744073709551615", "18446744073709551616", &"9".repeat(900)] {
                // What is no number of 64 bits was not announced.
                let announced = size.parse::<u64>().map(|size| format!("{size} ")).unwrap_or_default();
                at_server(&format!(
                    "C: {verb} <a> SIZE {size} \n S: {verb} ERR (file is too big) \n \
                     s= refused {verb} a {announced}TooBig"
                ));
            }
        }
        at_server("C: SEND <a> SIZE 100 \n s= offer a 100 plain");
        at_server("C: SEND <a> SIZE 00100 \n s= offer a 100 plain");
    }

    #[test]
    fn a_bad_name_is_told_before_a_bad_size() {
        at_server("C: SEND <?> SIZE 0 \n S: SEND ERR (invalid file name) \n s= refused SEND ? 0 InvalidName");
    }

    #[test]
    fn the_owner_may_refuse_an_offer() {
        for (verb, packing) in [("SEND", "plain"), ("ZSEND", "zip")] {
            for (reason, text) in [("Exists", "file already exists"), ("StorageFull", "storage full")] {
                at_both_ends(&format!(
                    r"
                    c= ready
                    c! send a.conf 3 {packing}
                    C: {verb} <a.conf> SIZE 3
                    s= offer a.conf 3 {packing}
                    s! refuse {reason}
                    S: {verb} ERR ({text})
                    c= refused {verb} ERR ({text})
                    c! quit
                    C: QUIT
                    s= quit
                    s/ QUIT
                    S/
                    c/ QUIT
                    "
                ));
            }
        }
    }

    #[test]
    fn the_owner_may_refuse_a_body() {
        at_both_ends(
            r"
            c= ready
            c! send a 1 plain
            C: SEND <a> SIZE 1
            s= offer a 1 plain
            s! accept
            S: SEND OK
            c= accepted
            c! body x
            C. x
            s= body x
            s= end
            s! refuse StorageFull
            S: SEND ERR (storage full)
            c= refused SEND ERR (storage full)
            ",
        );
    }

    #[test]
    fn a_body_may_come_in_one_packet_with_its_line_and_the_next() {
        at_server(
            r"
            C. SEND <a> SIZE 3\nabcSEND <b> SIZE 2\ndeQUIT\n
            s= offer a 3 plain
            s! accept
            S: SEND OK
            s= body abc
            s= end
            s! confirm
            S: SEND OK
            s= offer b 2 plain
            s! accept
            S: SEND OK
            s= body de
            s= end
            s! confirm
            S: SEND OK
            s= quit
            s/ QUIT
            ",
        );
    }

    #[test]
    fn names_are_bytes() {
        at_both_ends(
            r"
            c= ready
            c! send \xe4\xff!.1.data 1 plain
            C: SEND <\xe4\xff!.1.data> SIZE 1
            s= offer \xe4\xff!.1.data 1 plain
            ",
        );
        at_server("C: SEND <.hidden file> SIZE 1 \n s= offer .hidden file 1 plain");
    }

    #[test]
    fn a_client_that_leaves_in_a_body_leaves_nothing() {
        at_server(
            r"
            C: SEND <a> SIZE 3
            s= offer a 3 plain
            s! accept
            S: SEND OK
            C. ab
            C/
            s= body ab
            s/ 1 bytes of a body still to come
            ",
        );
    }

    #[test]
    fn a_client_that_ends_its_output_still_hears_the_answer() {
        at_server(
            r"
            C. SEND <a> SIZE 3\nabc
            C/
            s= offer a 3 plain
            s! accept
            S: SEND OK
            s= body abc
            s= end
            s! confirm
            S: SEND OK
            s/ between two commands
            ",
        );
    }

    #[test]
    fn an_early_verdict_waits_for_the_body() {
        at_client(
            r"
            c= ready
            c! send a 2 plain
            C: SEND <a> SIZE 2
            S: SEND OK
            c= accepted
            S: SEND ERR (storage full)
            c! body ab
            C. ab
            c= refused SEND ERR (storage full)
            ",
        );
    }

    #[test]
    fn a_server_that_wants_an_empty_body_is_not_believed() {
        at_client(
            "c= ready \n c! send a 0 plain \n C: SEND <a> SIZE 0 \n S: SEND OK \n c/ no answer to SEND",
        );
    }

    #[test]
    fn a_server_that_leaves_is_told_apart() {
        at_client(
            "c= ready \n c! send a 1 plain \n C: SEND <a> SIZE 1 \n S/ \n c/ instead of answering SEND",
        );
        at_client(
            "c= ready \n c! send a 1 plain \n C: SEND <a> SIZE 1 \n S. SEND O \n S/ \n c/ the middle of a line",
        );
    }

    #[test]
    fn other_answers_close_the_client() {
        for answer in
            ["RECV OK", "SEND SIZE 3", "SEND OKAY", "OK", "", r"\x1b[2J\xff", "SEND ERR (", "SEND ERR x"]
        {
            at_client(&format!(
                "c= ready \n c! send a 1 plain \n C: SEND <a> SIZE 1 \n S: {answer}\n c/ \"{answer}\" is no answer to SEND"
            ));
        }
    }
}

mod recv {
    use super::*;

    #[test]
    fn fetches_a_file() {
        for (verb, packing) in [("RECV", "plain"), ("ZRECV", "zip")] {
            at_both_ends(&format!(
                r"
                c= ready
                c! receive a.conf {packing}
                C: {verb} <a.conf>
                s= fetch a.conf {packing}
                s! announce 6
                S: {verb} SIZE 6
                c= size 6
                c! proceed
                C: {verb} OK
                s= proceed
                s! body abc
                S. abc
                s! body \n\xff\x00
                S. \n\xff\x00
                c= body abc\x0a\xff\x00
                c= end
                c! quit
                C: QUIT
                s= quit
                s/ QUIT
                S/
                c/ QUIT
                "
            ));
        }
    }

    #[test]
    fn fetches_an_empty_file() {
        at_both_ends(
            r"
            c= ready
            c! receive a.md5 plain
            C: RECV <a.md5>
            s= fetch a.md5 plain
            s! announce 0
            S: RECV SIZE 0
            c= size 0
            c! proceed
            C: RECV OK
            s= proceed
            c= end
            c! receive b.md5 plain
            C: RECV <b.md5>
            s= fetch b.md5 plain
            ",
        );
    }

    #[test]
    fn refuses_what_is_not_there() {
        for (verb, packing) in [("RECV", "plain"), ("ZRECV", "zip")] {
            at_both_ends(&format!(
                r"
                c= ready
                c! receive a.conf {packing}
                C: {verb} <a.conf>
                s= fetch a.conf {packing}
                s! refuse NotFound
                S: {verb} ERR (file does not exist)
                c= refused {verb} ERR (file does not exist)
                "
            ));
        }
    }

    #[test]
    fn refuses_names_in_its_own_words() {
        for (verb, packing) in [("RECV", "plain"), ("ZRECV", "zip")] {
            for name in ["../a", ".", "a*", &"n".repeat(211)] {
                at_server(&format!(
                    r"
                    C: {verb} <{name}>
                    S: {verb} ERR (file has an invalid file name)
                    s= refused {verb} {name} InvalidName
                    C: {verb} <a>
                    s= fetch a {packing}
                    "
                ));
            }
        }
    }

    #[test]
    fn takes_names_as_long_as_a_listing_makes_them() {
        let name = "n".repeat(210);
        at_both_ends(&format!(
            "c= ready \n c! receive {name} plain \n C: RECV <{name}>\n s= fetch {name} plain"
        ));
        at_both_ends(&format!("c= ready \n c! take {name} 50 \n C: MV <{name}>\n s= move {name}"));
    }

    #[test]
    fn any_other_reply_cancels_and_keeps_the_session() {
        for reply in ["RECV ERR", "RECV NO", "ZRECV OK", r"RECV OK\x20", "", "QUIT", "SEND <a> SIZE 3"] {
            at_server(&format!(
                r"
                C: RECV <a>
                s= fetch a plain
                s! announce 3
                S: RECV SIZE 3
                C: {reply}
                s= declined
                C: RECV <b>
                s= fetch b plain
                "
            ));
        }
    }

    #[test]
    fn the_client_may_decline() {
        at_both_ends(
            r"
            c= ready
            c! receive a plain
            C: RECV <a>
            s= fetch a plain
            s! announce 3000000
            S: RECV SIZE 3000000
            c= size 3000000
            c! decline
            C: RECV ERR
            s= declined
            c! receive b plain
            C: RECV <b>
            s= fetch b plain
            ",
        );
    }

    #[test]
    fn an_early_body_waits_for_its_owner() {
        at_client(
            r"
            c= ready
            c! receive a plain
            C: RECV <a>
            S: RECV SIZE 3
            S. abc
            c= size 3
            c! proceed
            C: RECV OK
            c= body abc
            c= end
            ",
        );
    }

    #[test]
    fn a_short_body_is_broken() {
        at_client(
            r"
            c= ready
            c! receive a plain
            C: RECV <a>
            S: RECV SIZE 3
            c= size 3
            c! proceed
            C: RECV OK
            S. ab
            S/
            c= body ab
            c/ 1 bytes of a body still to come
            ",
        );
    }

    #[test]
    fn a_long_body_breaks_the_next_request() {
        at_client(
            r#"
            c= ready
            c! receive a plain
            C: RECV <a>
            S: RECV SIZE 3
            c= size 3
            c! proceed
            C: RECV OK
            S. abc
            c= body abc
            c= end
            S: de
            c/ not asked for
            "#,
        );
    }

    #[test]
    fn a_client_that_leaves_instead_of_answering_is_told_apart() {
        at_server(
            r"
            C: RECV <a>
            s= fetch a plain
            s! announce 3
            S: RECV SIZE 3
            C/
            s/ without taking the body or declining it
            ",
        );
    }

    #[test]
    fn other_answers_close_the_client() {
        for answer in
            ["RECV OK", "RECV SIZE", "RECV SIZE -1", "RECV SIZE 18446744073709551616", "ZRECV SIZE 1"]
        {
            at_client(&format!(
                "c= ready \n c! receive a plain \n C: RECV <a> \n S: {answer}\n c/ \"{answer}\" is no answer to RECV"
            ));
        }
    }
}

mod ls {
    use super::*;

    #[test]
    fn lists_names() {
        at_both_ends(
            r"
            c= ready
            c! list .data
            C: LS <.data>
            s= list .data
            s! announce 17
            S: LS SIZE 17
            c= size 17
            c! proceed
            C: LS OK
            s= proceed
            s! body a.1.data\nb.2.data
            S. a.1.data\nb.2.data
            c= body a.1.data\x0ab.2.data
            c= end
            ",
        );
    }

    #[test]
    fn refuses_barely() {
        for filter in ["*", "/", "conf/", "*.data"] {
            at_server(&format!("C: LS <{filter}>\n S: LS ERR \n s= refused LS {filter} InvalidName"));
        }
        at_both_ends(
            r"
            c= ready
            c! list x.conf
            C: LS <x.conf>
            s= list x.conf
            s! refuse NotFound
            S: LS ERR
            c= refused LS ERR
            ",
        );
    }
}

mod mv {
    use super::*;

    #[test]
    fn deletes_after_the_next_command() {
        at_both_ends(
            r"
            c= ready
            c! take a.1.data 50
            C: MV <a.1.data>
            s= move a.1.data
            s! announce 3
            S: MV SIZE 3
            c= size 3
            c! proceed
            C: MV OK
            s= proceed
            s! body abc
            S. abc
            c= body abc
            + 50
            c= end
            c! take b.1.data 50
            C: MV <b.1.data>
            s= released
            # Nothing is answered before the file is gone.
            s! released
            s= move b.1.data
            s! refuse NotFound
            S: MV ERR
            c= refused MV ERR
            ",
        );
    }

    #[test]
    fn deletes_after_quit() {
        at_both_ends(
            r"
            c= ready
            c! take a 50
            C: MV <a>
            s= move a
            s! announce 0
            S: MV SIZE 0
            c= size 0
            c! proceed
            C: MV OK
            s= proceed
            + 50
            c= end
            c! quit
            C: QUIT
            s= released
            s! released
            s= quit
            s/ QUIT
            S/
            c/ QUIT
            ",
        );
    }

    #[test]
    fn keeps_the_file_without_a_next_command() {
        let moved = r"
            C: MV <a>
            s= move a
            s! announce 3
            S: MV SIZE 3
            C: MV OK
            s= proceed
            s! body abc
            S. abc
        ";
        at_server(&format!("{moved}\n C/ \n s/ so the file is kept"));
        at_server(&format!("{moved}\n C. QUIT \n C/ \n s/ so the file is kept"));
        at_server(&format!("{moved}\n C: QUI \n s/ unknown command"));
        at_server(&format!("{moved}\n C. QUIT\\r\\n \n s/ CR LF"));
        at_server(&format!("{moved}\n + 10000 \n s/ idle limit"));
    }

    #[test]
    fn a_refused_name_is_a_next_command_too() {
        at_server(
            r"
            C: MV <a>
            s= move a
            s! announce 1
            S: MV SIZE 1
            C: MV OK
            s= proceed
            s! body x
            S. x
            C: RECV <?>
            s= released
            s! released
            S: RECV ERR (file has an invalid file name)
            s= refused RECV ? InvalidName
            C/
            s/ between two commands
            ",
        );
    }

    #[test]
    fn keeps_a_file_that_was_declined() {
        at_server(
            r"
            C: MV <a>
            s= move a
            s! announce 1
            S: MV SIZE 1
            C: MV ERR
            s= declined
            C: QUIT
            s= quit
            s/ QUIT
            ",
        );
    }

    #[test]
    fn refuses_barely() {
        at_server("C: MV <?> \n S: MV ERR \n s= refused MV ? InvalidName");
        at_server("C: MV <a> \n s= move a \n s! refuse Bare \n S: MV ERR");
    }

    #[test]
    fn a_file_that_grew_comes_whole() {
        at_client(
            r"
            c= ready
            c! take a 50
            C: MV <a>
            S: MV SIZE 3
            c= size 3
            c! proceed
            C: MV OK
            S. abc
            + 49
            S. de
            + 49
            S. f
            c= body abcdef
            + 49
            + 1
            c= end missing 0 surplus 3
            ",
        );
    }

    #[test]
    fn a_file_that_grew_may_end_with_the_connection() {
        at_client(
            r"
            c= ready
            c! take a 50
            C: MV <a>
            S: MV SIZE 3
            c= size 3
            c! proceed
            C: MV OK
            S. abcd
            S/
            c= body abcd
            c= end missing 0 surplus 1
            c/ between two commands
            ",
        );
    }

    #[test]
    fn a_file_that_shrank_ends_with_the_connection() {
        at_client(
            r"
            c= ready
            c! take a 50
            C: MV <a>
            S: MV SIZE 3
            c= size 3
            c! proceed
            C: MV OK
            S. a
            + 3000
            S/
            c= body a
            c= end missing 2 surplus 0
            c/ between two commands
            ",
        );
    }
}

mod quit {
    use super::*;

    #[test]
    fn closes() {
        at_both_ends("c= ready \n c! quit \n C: QUIT \n s= quit \n s/ QUIT \n S/ \n c/ QUIT");
    }

    #[test]
    fn waits_for_the_peer_with_patience() {
        at_client("c= ready \n c! quit \n C: QUIT \n S. whatever \n + 3999 \n + 1 \n c/ QUIT");
    }
}

mod lines {
    use super::*;

    #[test]
    fn that_are_no_commands_close_without_a_word() {
        for line in ["", "HELO", "send <a> SIZE 3", "SEND a SIZE 3", "SEND <a> SIZE x", "GET / HTTP/1.1"] {
            at_server(&format!("C: {line}\n s/ unknown command \"{line}\""));
        }
    }

    #[test]
    fn with_carriage_returns_close_without_a_word() {
        for command in ["QUIT", "SEND <a> SIZE 3", "RECV <a>", "LS <.>", "MV <a>"] {
            at_server(&format!("C. {command}\\r\\n\n s/ CR LF"));
        }
        at_client("c= ready \n c! list . \n C: LS <.> \n S. LS ERR\\r\\n \n c/ CR LF");
    }

    #[test]
    fn longer_than_a_block_close_without_a_word() {
        let longest = "x".repeat(1023);
        at_server(&format!("C: {longest}\n s/ unknown command"));
        at_server(&format!("C: {longest}x\n s/ longer than the limit for lines"));
        at_server(&format!("C. {longest}x\n s/ longer than the limit for lines"));
        at_client(&format!(
            "c= ready \n c! list . \n C: LS <.> \n S. {longest}x\n c/ longer than the limit for lines"
        ));
    }

    #[test]
    fn cut_off_by_the_end_are_told_apart() {
        at_server("C/ \n s/ between two commands");
        at_server("C. QUI \n C/ \n s/ in the middle of a line");
    }
}

mod time {
    use super::*;

    #[test]
    fn a_line_must_be_complete_within_the_idle_limit() {
        at_server("+ 9999 \n + 1 \n s/ idle limit");
        at_server("+ 9000 \n C. QUI \n + 999 \n + 1 \n s/ idle limit");
        at_server("+ 9000 \n C. QUI \n + 999 \n C: T \n s= quit \n s/ QUIT");
    }

    #[test]
    fn every_command_begins_the_idle_limit_anew() {
        at_server(
            r"
            + 9000
            C: RECV <a>
            s= fetch a plain
            # The owner may take its time.
            + 60000
            s! refuse NotFound
            S: RECV ERR (file does not exist)
            + 9000
            C: RECV <?>
            S: RECV ERR (file has an invalid file name)
            s= refused RECV ? InvalidName
            + 9999
            + 1
            s/ idle limit
            ",
        );
    }

    #[test]
    fn an_announced_body_must_be_wanted_within_the_idle_limit() {
        at_server(
            r"
            C: RECV <a>
            s= fetch a plain
            s! announce 3
            S: RECV SIZE 3
            + 9999
            + 1
            s/ idle limit
            ",
        );
    }

    #[test]
    fn a_body_must_not_trickle() {
        at_server(
            r"
            C: SEND <a> SIZE 50
            s= offer a 50 plain
            s! accept
            S: SEND OK
            C. 1234567890
            + 5000
            # The first window brought its ten bytes, the second does not.
            C. 123456789
            s= body 1234567890123456789
            + 4999
            + 1
            s/ slower than the minimum rate, 31 bytes
            ",
        );
    }

    #[test]
    fn an_owner_may_take_its_time() {
        at_server(
            r"
            C: SEND <a> SIZE 1
            s= offer a 1 plain
            + 60000
            s! accept
            S: SEND OK
            C. x
            s= body x
            s= end
            + 60000
            s! confirm
            S: SEND OK
            + 9999
            + 1
            s/ idle limit
            ",
        );
    }

    #[test]
    fn a_client_has_patience_with_every_reply() {
        at_client_with(
            Some("secret"),
            "C: PASS 9e769017c85f064977fe6a658f207fa6 \n + 3999 \n + 1 \n c/ no answer to PASS in time",
        );
        at_client(
            "c= ready \n c! list . \n C: LS <.> \n S. LS SI \n + 3999 \n + 1 \n c/ no answer to LS in time",
        );
        at_client(
            r"
            c= ready
            + 60000
            c! send a 1 plain
            C: SEND <a> SIZE 1
            + 3999
            S: SEND OK
            c= accepted
            + 60000
            c! body x
            C. x
            + 3999
            + 1
            c/ no answer to SEND in time
            ",
        );
    }

    #[test]
    fn a_client_has_patience_with_every_byte_of_a_body() {
        at_client(
            r"
            c= ready
            c! receive a plain
            C: RECV <a>
            S: RECV SIZE 3
            c= size 3
            + 60000
            c! proceed
            C: RECV OK
            + 3999
            S. a
            c= body a
            + 3999
            + 1
            c/ stopped with 2 bytes still to come
            ",
        );
    }

    #[test]
    fn a_client_does_not_stand_a_trickle_for_ever() {
        let trickle = "+ 3000 \n S. x \n c= body x \n".repeat(9);
        at_client(&format!(
            r"
            c= ready
            c! receive a plain
            C: RECV <a>
            S: RECV SIZE 50
            c= size 50
            c! proceed
            C: RECV OK
            {trickle}
            + 2999
            + 1
            c/ slower than the minimum rate, 41 bytes
            "
        ));
    }
}
