use http::Request;

use super::looks_like_a_browser;

#[test]
fn browsers_are_told_from_nodes() {
    let is_browser = |name: &str, value: &str| {
        let request = Request::builder().header(name, value).body(());
        looks_like_a_browser(&request.unwrap())
    };
    for (name, value, expected) in [
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)", true),
        ("user-agent", "Go-http-client/1.1", false),
        ("user-agent", "a b c d e", true),
        ("accept-encoding", "gzip, deflate, br", true),
        ("accept-encoding", "gzip", false),
        ("accept-language", "de", true),
    ] {
        assert_eq!(is_browser(name, value), expected, "{name}: {value}");
    }
}
