//! Parses the name of an op on the command line.

use aio::ir::Op;

/// The op with this name, or an error that suggests the nearest names.
pub(crate) fn parse(name: &str) -> Result<Op, String> {
    Op::from_mnemonic(name).ok_or_else(|| {
        let near = nearest(name).join("`, `");
        format!("unknown op; the nearest are `{near}`; `aio graph ops` lists all")
    })
}

/// The three names with the smallest edit distance.
fn nearest(name: &str) -> Vec<&'static str> {
    let mut names: Vec<_> = Op::ALL.iter().map(|op| op.mnemonic()).collect();
    names.sort_by_cached_key(|known| strsim::damerau_levenshtein(known, name));
    names.truncate(3);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_nearly_one_gets_that_one() {
        assert_eq!((nearest("atend")[0], nearest("rmsnorm")[0], nearest("topk")[0]), ("attend", "rms_norm", "top_k"));
        assert_eq!(parse("matmul"), Ok(Op::Matmul));
    }
}
