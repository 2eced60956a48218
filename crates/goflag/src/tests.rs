use proptest::prelude::*;

use super::*;

fn sample() -> FlagSet {
    FlagSet::new("prog")
        .bool("b", false, "one letter")
        .bool("bool", true, "a switch")
        .opt_bool("opt", "unset or not")
        .int("int", 7, "a number\nof two lines")
        .uint("uint", 0, "no sign")
        .float("float", f64::INFINITY, "limit")
        .string("str", "a\"b", "see `FILE` for help")
        .duration("dur", GoDuration::from_secs(90), "how long")
        .port("port", 0, "which port")
        .text(
            "mode",
            "",
            |s| {
                if s == "on" {
                    Ok(())
                } else {
                    Err("not on".to_owned())
                }
            },
            "a mode",
        )
}

fn error(args: &[&str]) -> String {
    match sample().read(args.iter().copied()) {
        Err(Stop::Bad(bad)) => bad.0,
        other => panic!("{args:?} gave {other:?}"),
    }
}

#[test]
fn values_come_after_an_equals_sign_or_as_the_next_argument() {
    let p = sample()
        .parse([
            "-int=0x10",
            "--str",
            "-x",
            "-b",
            "--bool=F",
            "-dur",
            "1.5h",
            "-opt=1",
        ])
        .unwrap();
    assert_eq!(
        (p.int("int"), p.string("str"), p.bool("b"), p.bool("bool")),
        (16, "-x", true, false)
    );
    assert_eq!(
        (p.duration("dur").nanos(), p.opt_bool("opt")),
        (5_400_000_000_000, Some(true))
    );
    assert_eq!(
        p.given_names().collect::<Vec<_>>(),
        ["b", "bool", "dur", "int", "opt", "str"]
    );
    assert!(!p.given("port") && p.args().is_empty());
}

#[test]
fn flags_end_at_the_first_other_argument() {
    for (args, rest) in [
        (&["-b", "x", "-b"][..], &["x", "-b"][..]),
        (&["--", "-b"], &["-b"]),
        (&["-", "-b"], &["-", "-b"]),
        (&["-b", "true"], &["true"]),
        (&["", "-b"], &["", "-b"]),
    ] {
        assert_eq!(
            sample().parse(args.iter().copied()).unwrap().args(),
            rest,
            "{args:?}"
        );
    }
}

/// Words of Go 1.26 `flag`.
#[test]
fn mistakes_are_told_in_gos_words() {
    for (args, want) in [
        (&["-foo"][..], "flag provided but not defined: -foo"),
        (&["--foo=1"], "flag provided but not defined: -foo"),
        (&["---b"], "bad flag syntax: ---b"),
        (&["-=x"], "bad flag syntax: -=x"),
        (&["--=x"], "bad flag syntax: --=x"),
        (&["-int"], "flag needs an argument: -int"),
        (&["-int="], "invalid value \"\" for flag -int: parse error"),
        (
            &["-int", "0x"],
            "invalid value \"0x\" for flag -int: parse error",
        ),
        (
            &["-int", "9223372036854775808"],
            "invalid value \"9223372036854775808\" for flag -int: value out of range",
        ),
        (
            &["-uint", "-1"],
            "invalid value \"-1\" for flag -uint: parse error",
        ),
        (
            &["-b=maybe\n"],
            "invalid boolean value \"maybe\\n\" for -b: parse error",
        ),
        (
            &["-opt=x"],
            "invalid boolean value \"x\" for -opt: strconv.ParseBool: parsing \"x\": invalid syntax",
        ),
        (
            &["-dur", "5"],
            "invalid value \"5\" for flag -dur: parse error",
        ),
        (
            &["-port", "70000"],
            "invalid value \"70000\" for flag -port: out of range for port number",
        ),
        (
            &["-port", ":1"],
            "invalid value \":1\" for flag -port: expecting just a port number, without a colon",
        ),
        (
            &["-port", "x"],
            "invalid value \"x\" for flag -port: not a valid number",
        ),
        (
            &["-port", ""],
            "invalid value \"\" for flag -port: can't be the empty string",
        ),
        (
            &["-mode", "off"],
            "invalid value \"off\" for flag -mode: not on",
        ),
        (
            &["-float", "1e999"],
            "invalid value \"1e999\" for flag -float: value out of range",
        ),
    ] {
        assert_eq!(error(args), want);
    }
}

#[test]
fn a_flag_given_twice_counts_once_or_is_refused() {
    assert_eq!(sample().parse(["-int=1", "-int=2"]).unwrap().int("int"), 2);
    let once = sample().once();
    for (args, want) in [
        (
            ["-int=1", "-int=2"],
            "invalid value \"2\" for flag -int: flag provided multiple times",
        ),
        (
            ["-b", "-b"],
            "invalid boolean flag b: flag provided multiple times",
        ),
        (
            ["-b", "-b=true"],
            "invalid boolean value \"true\" for -b: flag provided multiple times",
        ),
    ] {
        assert_eq!(
            once.read(args).unwrap_err(),
            Stop::Bad(BadUsage(want.to_owned()))
        );
    }
}

#[test]
fn help_is_help_unless_a_flag_has_its_name() {
    for arg in ["-h", "--h", "-help", "--help", "-h=1"] {
        let end = sample().parse([arg]).unwrap_err();
        assert_eq!((&end.stop, end.exit_code()), (&Stop::Help, 0));
        assert_eq!(end.to_string(), sample().usage());
    }
    assert!(
        FlagSet::new("x")
            .bool("h", false, "")
            .parse(["-h"])
            .unwrap()
            .bool("h")
    );
}

#[test]
fn the_usage_text_has_gos_layout() {
    let want = "Usage of prog:\n  -b\tone letter\n  -bool\n    \ta switch (default true)\n  -dur duration\n    \thow long (default 1m30s)\n  \
                -float float\n    \tlimit (default +Inf)\n  -int int\n    \ta number\n    \tof two lines (default 7)\n  -mode value\n    \t\
                a mode\n  -opt\n    \tunset or not\n  -port value\n    \twhich port (default 0)\n  -str FILE\n    \tsee FILE for help \
                (default \"a\\\"b\")\n  -uint uint\n    \tno sign\n";
    assert_eq!(sample().usage(), want);
    let end = sample().parse(["-nope"]).unwrap_err();
    assert_eq!(
        (end.to_string(), end.exit_code()),
        (format!("flag provided but not defined: -nope\n{want}"), 2)
    );
}

/// From the tables of Go's `time` and `strconv` tests.
#[test]
fn numbers_and_durations_read_and_print_as_gos() {
    for (text, nanos) in [
        ("0", 0),
        ("+5s", 5_000_000_000),
        ("-1.5h", -5_400_000_000_000),
        ("1m.5s", 60_500_000_000),
        (".5s", 500_000_000),
        ("5.s", 5_000_000_000),
        ("10.5us", 10_500),
        ("12µs", 12_000),
        ("12μs", 12_000),
        ("39h9m14.425s", 140_954_425_000_000),
        ("-9223372036854775808ns", i64::MIN),
        ("9223372036s854775807ns", i64::MAX),
        ("0.100000000000000000000h", 360_000_000_000),
    ] {
        assert_eq!(text.parse(), Ok(GoDuration::from_nanos(nanos)), "{text}");
    }
    for text in [
        "",
        "3",
        "-",
        "s",
        ".",
        "-.",
        ".s",
        "+.s",
        "1d",
        "9223372036854775808ns",
        "-9223372036854775809ns",
        "1s ",
        "1e3s",
    ] {
        assert!(text.parse::<GoDuration>().is_err(), "{text}");
    }
    for (nanos, text) in [
        (0, "0s"),
        (1, "1ns"),
        (1_100, "1.1µs"),
        (2_200_000, "2.2ms"),
        (i64::MIN, "-2562047h47m16.854775808s"),
    ] {
        assert_eq!(GoDuration::from_nanos(nanos).to_string(), text);
    }
    for (value, text) in [
        (0.0, "0"),
        (1.5, "1.5"),
        (1e6, "1e+06"),
        (123_456.0, "123456"),
        (0.0001, "0.0001"),
        (1e-5, "1e-05"),
    ] {
        assert_eq!(Value::Float(value).to_string(), text);
    }
    for (text, want) in [
        ("0b11", 3),
        ("0o17", 15),
        ("017", 15),
        ("1_000", 1000),
        ("0x_f", 15),
        ("-0", 0),
        ("+3", 3),
        ("0_7", 7),
    ] {
        assert_eq!(
            sample().parse(["-int", text]).unwrap().int("int"),
            want,
            "{text}"
        );
    }
    for text in ["_1", "1__0", "1_", "08", "0b2", "", "+", "+-1", "1.0", "0x"] {
        assert!(sample().parse(["-int", text]).is_err(), "{text}");
    }
}

#[test]
fn quoting_is_gos() {
    for (text, want) in [
        ("a b", "\"a b\""),
        ("\x07\x7f\u{80}", "\"\\a\\x7f\\u0080\""),
        ("é☺", "\"é☺\""),
        ("\u{a0}", "\"\\u00a0\""),
    ] {
        assert_eq!(quote(text), want);
    }
}

proptest! {
    #[test]
    fn any_arguments_give_values_or_an_error(args in prop::collection::vec(".{0,12}|-{1,3}(int|dur|b|str|h)=?.{0,6}", 0..6)) {
        if let Err(end) = sample().parse(args) {
            prop_assert!(end.to_string().ends_with(&sample().usage()));
        }
    }

    #[test]
    fn durations_survive_their_text(nanos: i64) {
        let d = GoDuration::from_nanos(nanos);
        prop_assert_eq!(d.to_string().parse(), Ok(d));
    }

    #[test]
    fn all_that_follows_the_terminator_is_kept(args in prop::collection::vec(".{0,8}", 0..5)) {
        let all = ["-b".to_owned(), "--".to_owned()].into_iter().chain(args.clone());
        let parsed = sample().parse(all).unwrap();
        prop_assert_eq!(parsed.args(), &args[..]);
    }
}
