//! Graphs with plans unlike any in the conformance list: several KV states, finals of every kind, outputs that are
//! copies, `recent` and `pages` in results, verification after the tail. `hostile_plans` changes their plans.

use aio_plan::{Bucket, Tail};

/// A graph and the bucket to compile it for.
pub(crate) struct Graph {
    pub text: String,
    pub bucket: Bucket,
}

const SIZES: (u32, u32, u32) = (8, 2, 8);

const PAGED: &str = "%t = input \"page_table\" : u32[seqs, stride]\n%s = input \"row_seq\" : u32[rows]\n\
                     %p = input \"positions\" : u32[rows]\n%x = input \"x\" : f32[rows, 64]\n";

/// Finals that are another state, an input, or another state's update; outputs that are a state.
const FINALS: &str = "%few = input \"few\" : u32[2]\n%x = input \"x\" : f32[2, 3]\n%a = state \"a\" : f32[12, 3]\n\
                      %b = state \"b\" : f32[12, 3]\n%c = state \"c\" : f32[2, 3]\n%d = state \"d\" : f32[12, 3]\n\
                      %new = scatter %a, %few, %x\n%sum = add %b, %new\noutput \"before\" = %b\noutput \"sum\" = %sum\n\
                      final %a = %new\nfinal %b = %d\nfinal %c = %x\nfinal %d = %b\n";

/// Outputs that are an input, a weight, a state, reshapes of these, and the same value twice.
const ALIASES: &str = "%x = input \"x\" : f32[2, 6]\n%w = weight \"w\" : f32[3, 4]\n%s = state \"s\" : f32[12]\n\
                       %flat = reshape %x {shape = [12]}\n%neg = neg %x\n%turned = reshape %neg {shape = [4, 3]}\n\
                       output \"input\" = %x\noutput \"flat\" = %flat\noutput \"weight\" = %w\noutput \"neg\" = %neg\n\
                       output \"turned\" = %turned\noutput \"state\" = %s\nfinal %s = %flat\n";

/// Sizes that are products of symbols, and states as large as the pool.
const PRODUCTS: &str = "%x = input \"x\" : f32[rows, recent, 3]\n%y = input \"y\" : f32[recent, 3]\n\
                        %u = input \"u\" : f32[seqs, pages, recent]\n%s = state \"s\" : f32[pages, 5]\n\
                        %v = input \"v\" : f32[pages, 5]\n%xy = add %x, %y\n%r = reduce %xy {kind = sum, axis = 2}\n\
                        %n = neg %u\n%m = reduce %u {kind = max, axis = 1}\n%sv = add %s, %v\noutput \"xy\" = %xy\n\
                        output \"r\" = %r\noutput \"n\" = %n\noutput \"m\" = %m\noutput \"before\" = %s\nfinal %s = %sv\n";

/// Logits of sampled rows; the compiler adds the tail and the check of drafts.
const DECODE: &str = "%tokens = input \"tokens\" : u32[rows]\n%out_rows = input \"out_rows\" : u32[outs]\n\
                      %w = weight \"w\" : q8_0[100, 64]\n%x = embed %w, %tokens\n%last = gather %x, %out_rows\n\
                      %logits = matmul %last, %w\noutput \"logits\" = %logits\n";

/// The graphs. Do not reorder: corpus files refer to them by index.
pub(crate) fn graphs() -> Vec<Graph> {
    let plain = bucket(Tail::Logits, false);
    let plans = [
        (layers(), plain),
        (one_table_two_states(), plain),
        (FINALS.to_owned(), plain),
        (ALIASES.to_owned(), plain),
        (PRODUCTS.to_owned(), plain),
        (DECODE.to_owned(), bucket(Tail::Argmax, true)),
        (DECODE.to_owned(), bucket(Tail::Sample, true)),
    ];
    let graph = |(body, bucket): (String, Bucket)| Graph { text: format!("aio 1\ngraph \"case\"\n{body}"), bucket };
    plans.map(graph).into_iter().collect()
}

fn bucket(tail: Tail, verify: bool) -> Bucket {
    let (rows, seqs, outs) = SIZES;
    Bucket { rows, seqs, outs, tail, verify }
}

/// Two layers with weights, so that each fuses into tasks with its own KV state.
fn layers() -> String {
    let mut text = PAGED.to_owned();
    let mut x = "x".to_owned();
    for i in 0..2 {
        text +=
            &format!("%kv{i} = state \"kv{i}\" : f16[pages, 2, 2, 64, 32]\n%nw{i} = weight \"norm{i}\" : f32[64]\n");
        text += &format!("%h{i} = rms_norm %{x}, %nw{i} {{eps = 1e-5}}\n");
        for part in ["q", "k", "v"] {
            text +=
                &format!("%w{part}{i} = weight \"{part}{i}\" : f32[64, 64]\n%{part}m{i} = matmul %h{i}, %w{part}{i}\n");
            text += &format!("%{part}h{i} = reshape %{part}m{i} {{shape = [rows, 2, 32]}}\n");
        }
        for part in ["q", "k"] {
            text += &format!("%{part}r{i} = rope %{part}h{i}, %p {{pairs = halves, dims = 32, base = 10000.0}}\n");
        }
        text += &format!("%kvw{i} = page_write %kv{i}, %kr{i}, %vh{i}, %t, %s, %p\n");
        text += &format!("%a{i} = attend %qr{i}, %kvw{i}, %t, %s, %p {{scale = 0.17}}\n");
        text +=
            &format!("%f{i} = reshape %a{i} {{shape = [rows, 64]}}\n%x{i} = add %f{i}, %{x}\nfinal %kv{i} = %kvw{i}\n");
        x = format!("x{i}");
    }
    text + &format!("output \"y\" = %{x}\n")
}

/// States of different shapes that share one page table, and one more state that a step replaces as a whole.
fn one_table_two_states() -> String {
    format!(
        "{PAGED}%k = input \"k\" : f32[rows, 2, 16]\n%l = input \"l\" : f32[rows, 1, 32]\n\
         %kv = state \"kv\" : f16[pages, 2, 2, 64, 16]\n%kv2 = state \"kv2\" : f16[pages, 2, 1, 64, 32]\n\
         %held = state \"held\" : f16[pages, 2, 1, 64, 32]\n%given = input \"given\" : f16[pages, 2, 1, 64, 32]\n\
         %a = page_write %kv, %k, %k, %t, %s, %p\n%b = page_write %kv2, %l, %l, %t, %s, %p\n\
         %y = attend %k, %a, %t, %s, %p {{scale = 0.25}}\n%z = attend %l, %b, %t, %s, %p {{scale = 0.25}}\n\
         %h = attend %l, %held, %t, %s, %p {{scale = 0.25}}\n\
         output \"x\" = %x\noutput \"y\" = %y\noutput \"z\" = %z\noutput \"h\" = %h\n\
         final %kv = %a\nfinal %kv2 = %b\nfinal %held = %given\n"
    )
}
