//! The .npy format: parses bytes to a tensor and serialises one, without a file system.
//!
//! A file is a magic number, a version, a header length, a header in Python syntax, and the elements. Reads versions 1
//! and 2, writes version 1. Called by `npy`. The fuzz target `npy` compiles this file too, so it uses nothing else from
//! the command line.

use aio_ir::DType;
use thiserror::Error;

const MAGIC: &[u8] = b"\x93NUMPY";
/// Maximum bytes of a header; NumPy writes 64 to 128.
const MAX_HEADER: usize = 1 << 16;
/// Maximum number of dimensions, as in NumPy.
const MAX_DIMS: usize = 64;
/// Element types: NumPy's name and aio's type.
const TYPES: [(&str, DType); 7] = [
    ("<f4", DType::F32),
    ("<f2", DType::F16),
    ("<i4", DType::I32),
    ("<u4", DType::U32),
    ("|i1", DType::I8),
    ("|u1", DType::U8),
    ("|b1", DType::Bool),
];

/// A tensor in a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Npy {
    pub dtype: DType,
    /// Outermost first.
    pub shape: Vec<u64>,
    /// Elements, row-major, little-endian.
    pub bytes: Vec<u8>,
}

/// Why bytes are not a tensor, or a tensor cannot be written.
#[derive(Debug, PartialEq, Error)]
pub(crate) enum NpyError {
    #[error("not a .npy file: its first bytes are wrong")]
    Magic,
    #[error(".npy version {version} is not supported, only 1 and 2")]
    Version { version: usize },
    #[error("it ends inside its header")]
    Truncated,
    #[error("its header of {length} bytes is too long")]
    LongHeader { length: usize },
    #[error("its header is malformed")]
    Header,
    #[error("its elements are big-endian ({descr}), only little-endian ones are supported")]
    BigEndian { descr: String },
    #[error("its element type {descr} is not one of {}", names())]
    Type { descr: String },
    #[error("it is in Fortran order, only C order is supported")]
    Fortran,
    #[error("its shape has {dims} dimensions; at most {MAX_DIMS} are supported")]
    Rank { dims: usize },
    #[error("its shape is too large")]
    Shape,
    #[error("{shape:?} elements of {dtype} are {size} bytes, but it has {have}")]
    Size { shape: Vec<u64>, dtype: DType, size: u64, have: u64 },
    #[error("it has a bool that is neither 0 nor 1")]
    Bool,
    #[error(".npy has no type for {dtype}")]
    NoType { dtype: DType },
}

/// Whether .npy supports the element type.
pub(crate) fn has(dtype: DType) -> bool {
    TYPES.iter().any(|(_, t)| *t == dtype)
}

fn names() -> String {
    TYPES.map(|(name, _)| &name[1..]).join(" ")
}

/// Parses a file's bytes.
pub(crate) fn parse(mut file: Vec<u8>) -> Result<Npy, NpyError> {
    if !file.starts_with(MAGIC) {
        return Err(NpyError::Magic);
    }
    let number = |range: std::ops::Range<usize>| {
        let bytes = file.get(range).ok_or(NpyError::Truncated)?;
        Ok(bytes.iter().rev().fold(0, |n, &b| n << 8 | usize::from(b)))
    };
    let (start, length) = match number(6..7)? {
        1 => (10, number(8..10)?),
        2 => (12, number(8..12)?),
        version => return Err(NpyError::Version { version }),
    };
    if length > MAX_HEADER {
        return Err(NpyError::LongHeader { length });
    }
    let header = file.get(start..start + length).ok_or(NpyError::Truncated)?;
    let header = std::str::from_utf8(header).ok().and_then(Header::parse).ok_or(NpyError::Header)?;
    let dtype = dtype(header.descr)?;
    if header.fortran {
        return Err(NpyError::Fortran);
    }
    let shape = header.shape;
    check_size(dtype, &shape, (file.len() - start - length) as u64)?;
    file.drain(..start + length);
    if dtype == DType::Bool && file.iter().any(|&b| b > 1) {
        return Err(NpyError::Bool);
    }
    Ok(Npy { dtype, shape, bytes: file })
}

fn check_size(dtype: DType, shape: &[u64], have: u64) -> Result<(), NpyError> {
    if shape.len() > MAX_DIMS {
        return Err(NpyError::Rank { dims: shape.len() });
    }
    let size = shape.iter().try_fold(dtype.block_bytes() as u64, |n, &d| n.checked_mul(d)).ok_or(NpyError::Shape)?;
    if size != have {
        return Err(NpyError::Size { shape: shape.to_vec(), dtype, size, have });
    }
    Ok(())
}

fn dtype(descr: &str) -> Result<DType, NpyError> {
    // A single byte has no byte order, but some writers give one.
    let known = TYPES.iter().find(|(name, _)| {
        *name == descr || (name.starts_with('|') && descr.starts_with('<') && Some(&name[1..]) == descr.get(1..))
    });
    match known {
        Some((_, dtype)) => Ok(*dtype),
        None if descr.starts_with('>') => Err(NpyError::BigEndian { descr: descr.to_owned() }),
        None => Err(NpyError::Type { descr: descr.to_owned() }),
    }
}

/// Serialises the tensor; the elements start at a multiple of 64.
pub(crate) fn to_bytes(npy: &Npy) -> Result<Vec<u8>, NpyError> {
    let descr = TYPES.iter().find(|(_, t)| *t == npy.dtype).map(|(name, _)| *name);
    let descr = descr.ok_or(NpyError::NoType { dtype: npy.dtype })?;
    let dims: String = npy.shape.iter().map(|d| format!("{d}, ")).collect();
    // A single dimension keeps its comma, as in Python.
    let dims = if npy.shape.len() == 1 { dims.trim_end() } else { dims.trim_end_matches(", ") };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}), }}");
    let total = (MAGIC.len() + 4 + header.len() + 1).next_multiple_of(64);
    header.extend(std::iter::repeat_n(' ', total - MAGIC.len() - 4 - header.len() - 1));
    header.push('\n');
    let length = u16::try_from(header.len()).map_err(|_| NpyError::Rank { dims: npy.shape.len() })?;
    let mut out = [MAGIC, &[1, 0], &length.to_le_bytes(), header.as_bytes()].concat();
    out.extend_from_slice(&npy.bytes);
    Ok(out)
}

/// The fields of the header.
#[derive(Debug, Default, PartialEq)]
struct Header<'a> {
    descr: &'a str,
    fortran: bool,
    shape: Vec<u64>,
}

impl Header<'_> {
    /// Parses the header's dictionary; each of the three keys must occur exactly once.
    fn parse(text: &str) -> Option<Header<'_>> {
        let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
        let mut seen = (None, None, None);
        while !rest.is_empty() {
            let (key, after) = quoted(rest)?;
            let value = after.trim_start().strip_prefix(':')?.trim_start();
            let before = (seen.0.is_some(), seen.1.is_some(), seen.2.is_some());
            let after = match (key, before) {
                ("descr", (false, ..)) => take(&mut seen.0, quoted(value)?),
                ("fortran_order", (_, false, _)) => take(&mut seen.1, boolean(value)?),
                ("shape", (.., false)) => take(&mut seen.2, tuple(value)?),
                _ => return None,
            };
            let after = after.trim_start();
            rest = match after.strip_prefix(',') {
                Some(after) => after.trim_start(),
                None if after.is_empty() => after,
                None => return None,
            };
        }
        Some(Header { descr: seen.0?, fortran: seen.1?, shape: seen.2? })
    }
}

/// Stores what was parsed and returns the rest of the text.
fn take<'a, T>(field: &mut Option<T>, (value, after): (T, &'a str)) -> &'a str {
    *field = Some(value);
    after
}

fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

fn boolean(text: &str) -> Option<(bool, &str)> {
    let yes = text.strip_prefix("True").map(|after| (true, after));
    yes.or_else(|| text.strip_prefix("False").map(|after| (false, after)))
}

fn tuple(text: &str) -> Option<(Vec<u64>, &str)> {
    let (inside, after) = text.strip_prefix('(')?.split_once(')')?;
    let inside = inside.trim();
    let inside = inside.strip_suffix(',').unwrap_or(inside);
    if inside.is_empty() {
        return Some((Vec::new(), after));
    }
    let dims = inside.split(',').map(|d| d.trim().parse().ok()).collect::<Option<_>>()?;
    Some((dims, after))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes(), header.as_bytes(), data].concat()
    }

    #[test]
    fn what_is_written_is_read() {
        for (shape, bytes) in [(vec![], 4), (vec![3], 12), (vec![2, 3], 24), (vec![0, 7], 0)] {
            let npy = Npy { dtype: DType::F32, shape, bytes: vec![7; bytes] };
            let file = to_bytes(&npy).unwrap();
            assert_eq!((file.len() - bytes) % 64, 0);
            assert_eq!(parse(file).unwrap(), npy);
        }
    }

    #[test]
    fn both_versions_and_any_order_of_keys_are_read() {
        let header = "{ 'shape': (2,), \"descr\" : '<u1', 'fortran_order': False }  \n";
        let npy = Npy { dtype: DType::U8, shape: vec![2], bytes: vec![1, 2] };
        assert_eq!(parse(file(header, &[1, 2])).unwrap(), npy);
        let two = [MAGIC, &[2, 0], &(header.len() as u32).to_le_bytes(), header.as_bytes(), &[1, 2]].concat();
        assert_eq!(parse(two).unwrap(), npy);
    }

    #[test]
    fn everything_else_is_refused() {
        let with = |descr: &str, order: &str, shape: &str| {
            format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n")
        };
        let deep = format!("({})", "1,".repeat(65));
        let cases = [
            (with("<u1", "False", &deep), "65 dimensions"),
            (with("<f8", "False", "(1,)"), "element type <f8"),
            (with("", "False", "(1,)"), "element type"),
            (with("é", "False", "(1,)"), "element type"),
            (with(">f4", "False", "(1,)"), "big-endian"),
            (with("<f4", "True", "(1,)"), "Fortran"),
            (with("<f4", "False", "(2,)"), "8 bytes"),
            (with("<f4", "False", "(-1,)"), "malformed"),
            (with("<f4", "False", "(4294967296, 4294967296)"), "too large"),
            (with("|b1", "False", "(4,)"), "bool"),
            ("{'descr': '<f4', 'descr': '<f4'}".to_owned(), "malformed"),
            ("'".to_owned(), "malformed"),
        ];
        for (header, message) in cases {
            let error = parse(file(&header, &[2; 4])).unwrap_err().to_string();
            assert!(error.contains(message), "{header}: {error}");
        }
        let whole = file(&with("<f4", "False", "(1,)"), &[0; 4]);
        assert!((0..whole.len()).all(|n| parse(whole[..n].to_vec()).is_err()));
        assert!(parse([MAGIC, &[3, 0, 0, 0]].concat()).unwrap_err().to_string().contains("version 3"));
    }

    /// The corpus of the fuzz target `npy`; `AIO_BLESS=1` rewrites its outcomes.
    #[test]
    fn the_corpus_has_its_blessed_outcomes_and_is_written_as_it_was_read() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let folder = std::fs::read_dir(root.join("data/npy-corpus")).unwrap();
        let mut files: Vec<_> = folder.map(|e| e.unwrap().path()).collect();
        files.sort();
        let mut outcomes = String::new();
        for path in files {
            let parsed = parse(std::fs::read(&path).unwrap());
            let outcome = match &parsed {
                Ok(npy) => format!("{} {:?}, {} bytes", npy.dtype, npy.shape, npy.bytes.len()),
                Err(error) => format!("error: {error}"),
            };
            outcomes += &format!("{}: {outcome}\n", path.file_name().unwrap().to_string_lossy());
            if let Ok(npy) = parsed {
                assert_eq!(parse(to_bytes(&npy).unwrap()), Ok(npy), "{}", path.display());
            }
        }
        let blessed = root.join("baselines/npy-corpus.txt");
        if std::env::var_os("AIO_BLESS").is_some_and(|v| v == "1") {
            std::fs::write(&blessed, &outcomes).unwrap();
        }
        assert_eq!(outcomes, std::fs::read_to_string(blessed).unwrap());
    }
}
