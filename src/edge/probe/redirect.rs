//! Where an answer sends who asked: followed as Kubernetes does, but never to another scheme, host or port.

use hyper::StatusCode;
use hyper::Uri;
use hyper::header::{HeaderMap, LOCATION};

use super::context::Place;

/// As many as Kubernetes follows.
pub(super) const HOPS_MAX: usize = 10;

/// The path, with its query, that an answer leads to; none where it leads nowhere or elsewhere. `from`: what was
/// asked for.
pub(super) fn onward(
    status: StatusCode,
    headers: &HeaderMap,
    from: &str,
    place: &Place,
    scheme: &str,
) -> Option<String> {
    let follows = matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let location = headers.get(LOCATION).filter(|_| follows)?.to_str().ok()?;
    // What stands behind `#` is never sent.
    let location = location.split('#').next().unwrap_or_default();
    let absolute = match location.strip_prefix("//") {
        Some(rest) => Some(format!("{scheme}://{rest}")),
        // A query may hold another address.
        None => location.split(['/', '?']).next()?.contains(':').then(|| location.to_string()),
    };
    if let Some(absolute) = absolute {
        let uri: Uri = absolute.parse().ok()?;
        let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        let same = uri.scheme_str() == Some(scheme) && is_of(place, uri.host()?, port);
        return same.then(|| uri.path_and_query().map_or("/".into(), |path| path.to_string()));
    }
    let path = from.split('?').next().unwrap_or("/");
    Some(match location.chars().next()? {
        '?' => format!("{path}{location}"),
        '/' => without_dots(location),
        _ => without_dots(&format!("{}/{location}", path.rsplit_once('/').map_or("", |(folder, _)| folder))),
    })
}

/// RFC 3986, section 5.2.4: `..` goes up, and nowhere from the top.
fn without_dots(target: &str) -> String {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part),
        }
    }
    let is_folder = matches!(path.rsplit('/').next(), Some("." | ".."));
    let end = if is_folder && !parts.is_empty() { "/" } else { "" };
    format!("/{}{end}{query}", parts.join("/"))
}

fn is_of(place: &Place, host: &str, port: u16) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match place {
        Place::Local(own) => *own == port && matches!(host, "localhost" | "127.0.0.1" | "::1"),
        Place::Host(own, at) => *at == port && own.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn only_what_lies_at_the_same_place_is_followed() {
        let (local, far) = (Place::Local(80), Place::Host("db.local".into(), 8443));
        for (location, place, scheme, to) in [
            ("/b", &local, "http", Some("/b")),
            ("b?c", &local, "http", Some("/a/b?c")),
            ("../b?c=/../d", &local, "http", Some("/b?c=/../d")),
            ("./b/../c/.", &local, "http", Some("/a/c/")),
            ("../../..", &local, "http", Some("/")),
            ("/x/../y/", &local, "http", Some("/y/")),
            ("?x=1", &local, "http", Some("/a/z?x=1")),
            ("/login?next=http://shop.example/", &local, "http", Some("/login?next=http://shop.example/")),
            ("login?next=http://shop.example/", &local, "http", Some("/a/login?next=http://shop.example/")),
            ("mailto:nobody@shop.example", &local, "http", None),
            ("http://localhost/b#part", &local, "http", Some("/b")),
            ("http://127.0.0.1:80", &local, "http", Some("/")),
            ("//[::1]/b", &local, "http", Some("/b")),
            ("http://localhost:81/b", &local, "http", None),
            ("https://localhost:80/b", &local, "http", None),
            ("http://example.org/b", &local, "http", None),
            ("//example.org/b", &local, "http", None),
            ("https://DB.local:8443/b", &far, "https", Some("/b")),
            ("https://db.local/b", &far, "https", None),
            ("", &local, "http", None),
            ("#top", &local, "http", None),
            ("http://", &local, "http", None),
        ] {
            let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static(location))]);
            let found = |status| onward(status, &headers, "/a/z?q", place, scheme);
            assert_eq!(found(StatusCode::FOUND).as_deref(), to, "{location}");
            assert_eq!(found(StatusCode::NOT_MODIFIED), None, "{location}");
        }
        assert_eq!(onward(StatusCode::FOUND, &HeaderMap::new(), "/", &local, "http"), None);
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static("/b"))]);
        for (status, is_followed) in [
            (200, false),
            (300, false),
            (301, true),
            (302, true),
            (303, true),
            (304, false),
            (305, false),
            (307, true),
            (308, true),
        ] {
            let found =
                StatusCode::from_u16(status).ok().and_then(|status| onward(status, &headers, "/", &local, "http"));
            assert_eq!(found.is_some(), is_followed, "{status}");
        }
    }
}
