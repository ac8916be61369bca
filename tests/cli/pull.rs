//! `aio pull`: any file from a server of the test's own, and the default model without its means.

use crate::{Place, check_failure};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::net::TcpListener;

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn content() -> Vec<u8> {
    (0..300_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[..2].to_vec()).collect()
}

/// How a server answers one request.
#[derive(Clone, Copy)]
enum Answer {
    /// All that was asked for, ranges included.
    Whole,
    /// The whole file, whatever was asked for.
    NoRanges,
    /// The header and so many bytes; then the connection ends.
    Breaks(usize),
    /// This status and nothing else.
    Status(&'static str),
}

/// Serves the content once per answer; the address of a file on the server.
fn serve(answers: Vec<Answer>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/files/some.bin", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                request.push(byte[0]);
            }
            let _ = stream.write_all(&respond(&String::from_utf8_lossy(&request).to_lowercase(), answer));
        }
    });
    url
}

fn respond(request: &str, answer: Answer) -> Vec<u8> {
    let content = content();
    let from =
        request.lines().find_map(|l| l.strip_prefix("range: bytes=")?.trim_end_matches('-').parse::<usize>().ok());
    let (status, from) = match (answer, from) {
        (Answer::Status(status), _) => return format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes(),
        (Answer::NoRanges, _) | (_, None) => ("200 OK", 0),
        (_, Some(from)) if from >= content.len() => {
            return respond(request, Answer::Status("416 Range Not Satisfiable"));
        }
        (_, Some(from)) => ("206 Partial Content", from),
    };
    let (rest, last, all) = (&content[from..], content.len() - 1, content.len());
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{last}/{all}\r\nConnection: close\r\n\r\n",
        rest.len()
    );
    let sent = if let Answer::Breaks(at) = answer { &rest[..at] } else { rest };
    [head.as_bytes(), sent].concat()
}

#[test]
fn a_file_is_fetched_checked_and_named() {
    let place = Place::new();
    let (url, sum) = (serve(vec![Answer::Whole; 3]), sha256(&content()));
    assert_eq!(place.good(&["pull", &url, "--sha256", &sum, "-o", "x.bin"]), "x.bin\n");
    assert_eq!(std::fs::read(place.path("x.bin")).unwrap(), content());
    // The second time nothing is fetched.
    place.good(&["pull", "http://127.0.0.1:1/x", "--sha256", &sum.to_uppercase(), "-o", "x.bin"]);
    place.bad(&["pull", &url, "--sha256", &"0".repeat(64), "-o", "x.bin"], 2, "--force replaces it");
    let path = place.good(&["pull", &url, "--sha256", &sum]);
    assert!(path.trim().ends_with("cache/aio/models/some.bin"), "{path}");
    place.write("x.bin", "other");
    place.good(&["pull", &url, "--sha256", &sum, "-o", "x.bin", "--force"]);
    assert_eq!(std::fs::read(place.path("x.bin")).unwrap(), content());
}

#[test]
fn a_broken_connection_leaves_a_part_that_goes_on() {
    for second in [Answer::Whole, Answer::NoRanges] {
        let place = Place::new();
        let (url, sum) = (serve(vec![Answer::Breaks(100_000), Answer::Status("503 Busy"), second]), sha256(&content()));
        let args = ["pull", &url, "--sha256", &sum, "-o", "x.bin"];
        check_failure(&place.run(&args), 2, "x.bin.part is kept");
        assert_eq!(std::fs::metadata(place.path("x.bin.part")).unwrap().len(), 100_000);
        place.bad(&args, 2, "status 503");
        place.good(&args);
        assert_eq!(std::fs::read(place.path("x.bin")).unwrap(), content());
        assert!(!place.path("x.bin.part").exists());
    }
}

#[test]
fn a_part_that_is_all_or_too_much_ends_well() {
    for part in [content(), [content(), vec![7]].concat()] {
        let place = Place::new();
        place.write("x.bin.part", part);
        let url = serve(vec![Answer::Whole; 2]);
        place.good(&["pull", &url, "--sha256", &sha256(&content()), "-o", "x.bin"]);
        assert_eq!(std::fs::read(place.path("x.bin")).unwrap(), content());
    }
}

#[test]
fn what_goes_wrong_leaves_nothing() {
    let place = Place::new();
    let zeros = "0".repeat(64);
    let url = serve(vec![Answer::Whole, Answer::Status("404 Not Found"), Answer::Breaks(0)]);
    place.bad(&["pull", &url, "--sha256", &zeros, "-o", "x.bin"], 2, "expected 0000");
    place.bad(&["pull", &url, "--sha256", &zeros, "-o", "x.bin"], 2, "status 404");
    place.bad(&["pull", &url, "--sha256", &zeros, "-o", "x.bin"], 2, "broke after 0");
    place.bad(&["pull", "http://127.0.0.1:1/x", "--sha256", &zeros, "-o", "x.bin"], 2, "cannot fetch");
    place.bad(&["pull", "ftp://127.0.0.1/x", "--sha256", &zeros, "-o", "x.bin"], 2, "only http");
    place.bad(&["pull", "not a url", "--sha256", &zeros, "-o", "x.bin"], 2, "only http");
    place.bad(&["pull", &url, "--sha256", &zeros, "-o", "no/folder/x.bin"], 2, "no/folder");
    place.bad(&["pull", &url, "--sha256", &zeros, "-o", "."], 2, "folder");
    place.bad(&["pull", "http://127.0.0.1:1/", "--sha256", &zeros], 2, "no plain file name");
    place.bad(&["pull", "http://127.0.0.1:1/a/..", "--sha256", &zeros], 2, "no plain file name");
}

#[test]
fn without_pip_the_default_model_says_what_is_missing() {
    let place = Place::new();
    std::fs::create_dir(place.path("empty")).unwrap();
    for args in [&["pull"][..], &["run", "-p", "x"], &["graph", "passes"]] {
        let output = place.command(args).env("PATH", place.path("empty")).output().unwrap();
        check_failure(&output, 2, "needs Python's pip");
        assert!(place.listing().is_empty(), "nothing is left: {:?}", place.listing());
    }
}
