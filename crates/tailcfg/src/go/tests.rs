use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::*;

crate::wire! {
    /// Something of everything.
    struct Sample {
        /// Always written.
        "ID" = id: i64,
        /// Left out when zero.
        "Name" ? name: String,
        /// Null differs from empty.
        "List" ? list: Option<Vec<i64>>,
        /// Addresses.
        "Addrs" = addrs: Vec<IpAddr>,
        /// Null values matter.
        "Patch" ? patch: BTreeMap<String, Option<i64>>,
        /// A time.
        "When" ? when: GoTime,
        /// Bytes.
        "Sig" = sig: Bytes,
        /// Raw values.
        "Caps" ? caps: BTreeMap<String, Vec<RawJson>>,
        /// Nested.
        "Inner" ? inner: Option<Box<Sample>>,
        /// A float.
        "F" ? f: f64,
        /// Integer keys.
        "Scores" ? scores: BTreeMap<i32, f64>,
        /// Tri-state.
        "Opt" ? opt: Option<bool>,
    }
}

fn parse(text: &str) -> Sample {
    serde_json::from_str(text).unwrap()
}

#[test]
fn null_is_zero_everywhere() {
    let nulls = r#"{"ID":null,"Name":null,"List":null,"Addrs":null,"Patch":null,"When":null,"Sig":null,"Caps":null,
        "Inner":null,"F":null,"Scores":null,"Opt":null,"Unknown":{"a":[null]}}"#;
    assert_eq!(parse(nulls), Sample::default());
    assert_eq!(parse("null"), Sample::default());
    assert_eq!(
        parse(r#"{"Addrs":[null,"","fe80::1%eth0","1.2.3.4"]}"#).addrs,
        ["1.2.3.4".parse::<IpAddr>().unwrap()]
    );
}

#[test]
fn nil_and_empty_lists_stay_apart() {
    assert_eq!(parse("{}").list, None);
    assert_eq!(parse(r#"{"List":[]}"#).list, Some(vec![]));
    assert_eq!(
        to_string(&parse(r#"{"List":[]}"#)).unwrap(),
        r#"{"ID":0,"List":[],"Addrs":[],"Sig":null}"#
    );
    let patch = parse(r#"{"Patch":{"*":null,"a":1}}"#).patch;
    assert_eq!(
        patch,
        BTreeMap::from([("*".into(), None), ("a".into(), Some(1))])
    );
}

#[test]
fn names_match_in_any_case_and_the_last_one_wins() {
    assert_eq!(parse(r#"{"id":1,"nAME":"x"}"#).name, "x");
    assert_eq!(parse(r#"{"ID":1,"ID":2}"#).id, 2);
    assert_eq!(parse(r#"{"Name":"a\u0026b\u003c"}"#).name, "a&b<");
}

#[test]
fn text_comes_out_as_go_writes_it() {
    let sample = Sample {
        name: "<a&b>\u{2028}\"\n".into(),
        caps: BTreeMap::from([("c".into(), vec![RawJson::of("x<y")])]),
        f: 1.0,
        scores: BTreeMap::from([(1, 0.5), (2, 1e21), (3, 1e-7), (4, 3.0)]),
        sig: Bytes(vec![3, 4]),
        when: "2023-08-18T16:00:00.5Z".parse().unwrap(),
        ..Sample::default()
    };
    let text = to_string(&sample).unwrap();
    assert_eq!(
        text,
        r#"{"ID":0,"Name":"\u003ca\u0026b\u003e\u2028\"\n","Addrs":[],"When":"2023-08-18T16:00:00.5Z","Sig":"AwQ=","Caps":{"c":["x\u003cy"]},"F":1,"Scores":{"1":0.5,"2":1e+21,"3":1e-7,"4":3}}"#
    );
    assert_eq!(parse(&text), sample);
    assert_eq!(
        to_string_indent(&BTreeMap::from([("a", Vec::<i32>::new())]), "\t").unwrap(),
        "{\n\t\"a\": []\n}"
    );
}

#[test]
fn raw_values_keep_null_elements() {
    let sample = parse(r#"{"Caps":{"a":null,"b":[],"c":[null,{"x":1}]}}"#);
    assert_eq!(sample.caps.keys().collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(sample.caps["c"][0].get(), "null");
    assert_eq!(sample.caps["c"][1].get(), r#"{"x":1}"#);
}

#[test]
fn the_zero_time_is_known() {
    let zero: GoTime = "0001-01-01T00:00:00Z".parse().unwrap();
    assert!(zero.is_zero());
    assert_eq!(GoTime::ZERO.to_string(), "0001-01-01T00:00:00Z");
    let time: GoTime = "2024-01-02T03:04:05.123456789+02:00".parse().unwrap();
    assert_eq!(time.to_string(), "2024-01-02T01:04:05.123456789Z");
    assert_eq!(GoTime::from_unix_secs(123).unix_secs(), 123);
    assert_eq!(GoTime::from_unix_nanos(time.unix_nanos()), time);
    let last: GoTime = "9999-12-31T23:59:59.999999999Z".parse().unwrap();
    assert_eq!(last, GoTime::from_unix_nanos(i128::MAX));
    let _ = GoTime::from_unix_secs(i64::MIN).unix_secs();
}

#[test]
fn optional_addresses_are_empty_texts() {
    assert_eq!(to_string(&OptAddr(None)).unwrap(), r#""""#);
    assert_eq!(
        serde_json::from_str::<OptAddr>("null").unwrap(),
        OptAddr(None)
    );
    assert_eq!(
        serde_json::from_str::<OptAddr>(r#""""#).unwrap(),
        OptAddr(None)
    );
    assert_eq!(to_string(&Secret::new("k".into())).unwrap(), r#""k""#);
    assert_eq!(format!("{:?}", Secret::new("k".into())), "Secret(..)");
}

#[test]
fn integer_keys_sort_as_texts() {
    struct Map(BTreeMap<i64, i64>);
    impl serde::Serialize for Map {
        fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
            int_keys(&self.0, s)
        }
    }
    let map = Map(BTreeMap::from([(9, 1), (10, 2)]));
    assert_eq!(to_string(&map).unwrap(), r#"{"10":2,"9":1}"#);
}

#[test]
fn bad_texts_are_errors() {
    for text in [
        r#"{"Addrs":["x"]}"#,
        r#"{"When":"yesterday"}"#,
        r#"{"Sig":"*"}"#,
        r#"{"ID":"1"}"#,
        "[]",
    ] {
        assert!(serde_json::from_str::<Sample>(text).is_err(), "{text}");
    }
    fn read<T: Wire>(text: &str) -> Result<Option<T>, serde_json::Error> {
        serde_json::from_str::<Maybe<T>>(text).map(|value| value.0)
    }
    assert!(read::<SocketAddr>(r#""[::1]:80""#).unwrap().is_some());
    assert!(
        read::<SocketAddr>(r#""[fe80::1%eth0]:80""#)
            .unwrap()
            .is_none()
    );
    assert!(read::<IpNet>(r#""10.0.0.0/33""#).is_err());
}
