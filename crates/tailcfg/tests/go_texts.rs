//! Texts of Go's encoder, byte for byte.
//!
//! `golden/go.txt` has, for each type, the JSON of its zero value and of a value in which every exported field has been
//! set by reflection, as Go's `encoding/json` wrote them from the types of the original's version 1.103.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Enrolment with hardware keys is not spoken.
const NOT_SPOKEN: [&str; 2] = [
    r#""HardwareAttestationKeySignature":"Cww=","#,
    r#""HardwareAttestationKeySignatureTimestamp":"2023-11-14T22:13:33.123Z","#,
];

fn round_trip<T: DeserializeOwned + Serialize>(json: &str) -> String {
    let value: T = serde_json::from_str(json).unwrap();
    tailcfg::go::to_string(&value).unwrap()
}

#[test]
fn every_field_survives_as_go_wrote_it() {
    let mut count = 0;
    for line in include_str!("golden/go.txt").lines() {
        let (name, json) = line.split_once(' ').unwrap();
        let again = match name {
            "MapResponse" => round_trip::<tailcfg::MapResponse>(json),
            "MapRequest" => round_trip::<tailcfg::MapRequest>(json),
            "RegisterRequest" => round_trip::<tailcfg::RegisterRequest>(json),
            "RegisterResponse" => round_trip::<tailcfg::RegisterResponse>(json),
            "PingResponse" => round_trip::<tailcfg::PingResponse>(json),
            "OverTLSPublicKeyResponse" => round_trip::<tailcfg::OverTlsPublicKeyResponse>(json),
            "WhoIsResponse" => round_trip::<tailcfg::WhoIsResponse>(json),
            "C2NUpdateResponse" => round_trip::<tailcfg::C2nUpdateResponse>(json),
            "C2NPostureIdentityResponse" => round_trip::<tailcfg::C2nPostureIdentity>(json),
            "C2NTLSCertInfo" => round_trip::<tailcfg::C2nTlsCertInfo>(json),
            "EarlyNoise" => round_trip::<tailcfg::EarlyNoise>(json),
            other => panic!("unknown type {other}"),
        };
        let want = NOT_SPOKEN
            .iter()
            .fold(json.to_owned(), |json, field| json.replace(field, ""));
        assert_eq!(again, want, "{name}");
        count += 1;
    }
    assert_eq!(count, 22);
}
