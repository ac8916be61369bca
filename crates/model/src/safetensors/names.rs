//! Tensor names: from Hugging Face's to GGUF's.

/// Names inside a layer.
const LAYER: &[(&str, &str)] = &[
    ("input_layernorm.weight", "attn_norm.weight"),
    ("self_attn.q_proj.weight", "attn_q.weight"),
    ("self_attn.q_proj.bias", "attn_q.bias"),
    ("self_attn.k_proj.weight", "attn_k.weight"),
    ("self_attn.k_proj.bias", "attn_k.bias"),
    ("self_attn.v_proj.weight", "attn_v.weight"),
    ("self_attn.v_proj.bias", "attn_v.bias"),
    ("self_attn.o_proj.weight", "attn_output.weight"),
    ("self_attn.o_proj.bias", "attn_output.bias"),
    ("self_attn.q_norm.weight", "attn_q_norm.weight"),
    ("self_attn.k_norm.weight", "attn_k_norm.weight"),
    ("post_attention_layernorm.weight", "ffn_norm.weight"),
    ("mlp.gate_proj.weight", "ffn_gate.weight"),
    ("mlp.gate_proj.bias", "ffn_gate.bias"),
    ("mlp.up_proj.weight", "ffn_up.weight"),
    ("mlp.up_proj.bias", "ffn_up.bias"),
    ("mlp.down_proj.weight", "ffn_down.weight"),
    ("mlp.down_proj.bias", "ffn_down.bias"),
];

/// GGUF's name of a tensor. Outer `None`: the tensor is left out. Inner `None`: the name is unknown.
pub(super) fn of(name: &str, tied: bool) -> Option<Option<String>> {
    let whole = match name {
        "model.embed_tokens.weight" => Some("token_embd.weight"),
        "model.norm.weight" => Some("output_norm.weight"),
        // Some files repeat the embedding under this name.
        "lm_head.weight" if tied => return None,
        "lm_head.weight" => Some("output.weight"),
        // Old files store values that follow from the configuration.
        _ if name.ends_with(".rotary_emb.inv_freq") => return None,
        _ => None,
    };
    Some(whole.map(str::to_owned).or_else(|| of_layer(name)))
}

fn of_layer(name: &str) -> Option<String> {
    let (number, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let number: u32 = number.parse().ok()?;
    let (_, own) = LAYER.iter().find(|(theirs, _)| *theirs == rest)?;
    Some(format!("blk.{number}.{own}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_left_out_or_unknown() {
        let known = |s: &str| Some(Some(s.to_owned()));
        assert_eq!(of("model.layers.11.mlp.up_proj.weight", false), known("blk.11.ffn_up.weight"));
        assert_eq!(of("lm_head.weight", false), known("output.weight"));
        assert_eq!(of("lm_head.weight", true), None);
        assert_eq!(of("model.layers.0.self_attn.rotary_emb.inv_freq", false), None);
        for name in ["model.layers.x.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.scale", "visual.proj", ""] {
            assert_eq!(of(name, false), Some(None), "{name}");
        }
    }
}
