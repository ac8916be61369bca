//! Pre-tokenizers by name: how a text is split into words before byte-pair merging.
//!
//! A GGUF file names its pre-tokenizer in `tokenizer.ggml.pre`. Each name stands for a list of regular expressions,
//! each of which splits the pieces left by the previous one into matches and gaps. Names and expressions are facts of
//! the models' own `tokenizer.json` files as collected by llama.cpp b11434. A name that is not in [`SUPPORTED`] is
//! rejected, because the closest known one would silently encode digits or spaces differently.

/// How texts are split, and other settings that depend on the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pre {
    /// Regular expressions, applied in order.
    pub splits: &'static [&'static str],
    /// Whether a word that is itself a token is used without merging.
    pub ignore_merges: bool,
    /// Whether a text starts with the begin-of-sequence token, unless the file says otherwise.
    pub add_bos: bool,
}

/// Each digit separately.
pub(crate) const DIGIT: &str = r"\p{N}";
const UP_TO_3_DIGITS: &str = r"\p{N}{1,3}";
/// Words, digits, punctuation and spaces as GPT-2 splits them.
pub(crate) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
const LLAMA3: &str = concat!(
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN2: &str = concat!(
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN35: &str = concat!(
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}",
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const SEED_CODER: &str = concat!(
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const DEEPSEEK_V3: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

const fn plain(splits: &'static [&'static str]) -> Pre {
    Pre { splits, ignore_merges: false, add_bos: false }
}

/// All supported names.
pub const SUPPORTED: &[(&[&str], Pre)] = &[
    (&["default"], plain(&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"])),
    (
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "a.x-4.0",
            "mellum",
            "gigachat",
            "exaone4",
            "trillion",
            "granite-docling",
        ],
        plain(&[GPT2]),
    ),
    (
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        plain(&[DIGIT, GPT2]),
    ),
    (
        &["llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        Pre { splits: &[LLAMA3], ignore_merges: true, add_bos: true },
    ),
    (&["dbrx", "smaug-bpe"], plain(&[LLAMA3])),
    (
        &["qwen2", "deepseek-r1-qwen", "kormo", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"],
        plain(&[QWEN2]),
    ),
    (&["qwen35"], plain(&[QWEN35])),
    (&["seed-coder"], plain(&[SEED_CODER])),
    (&["deepseek-coder"], plain(&[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", DIGIT])),
    (&["deepseek-v3", "hunyuan-dense", "joyai-llm"], plain(&[UP_TO_3_DIGITS, "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK_V3])),
    (&["falcon"], plain(&[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"])),
    (&["tekken"], Pre { splits: &[TEKKEN], ignore_merges: true, add_bos: true }),
    (&["gpt-4o", "llama4", "kanana2"], plain(&[GPT4O])),
];

/// The pre-tokenizer with this name.
pub fn find(name: &str) -> Option<Pre> {
    SUPPORTED.iter().find(|(names, _)| names.contains(&name)).map(|&(_, pre)| pre)
}

/// The name of the pre-tokenizer with these expressions, in the spelling of `tokenizer.json` files.
#[cfg(feature = "safetensors")]
pub(crate) fn name_of(splits: &[String], ignore_merges: bool) -> Option<&'static str> {
    // The only expression that those files and llama.cpp's list spell differently.
    let spelled = |regex: &str| {
        let both_cases = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
        regex.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)", both_cases)
    };
    let same = |pre: &Pre| {
        let ours = pre.splits.iter().map(|s| spelled(s));
        pre.ignore_merges == ignore_merges && ours.eq(splits.iter().map(|s| spelled(s)))
    };
    SUPPORTED.iter().find(|(_, pre)| same(pre)).map(|(names, _)| names[0])
}
