//! Makes traces from a seed: a mix of categories at a context length.

use super::TraceRequest;
use crate::random::Random;

/// Which requests are frequent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Of all kinds.
    Mixed,
    /// Mostly code.
    Code,
    /// Mostly questions of knowledge.
    Knowledge,
}

/// What trace to make.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceOptions {
    /// The mix of categories.
    pub mix: Mix,
    /// Number of requests.
    pub requests: u32,
    /// Most positions of prompt and output together.
    pub context: u32,
    /// Requests that arrive each second, on average (Poisson); all at once if infinite.
    pub rate: f64,
    /// Seed of everything random.
    pub seed: u64,
}

/// A category's requests. Shares of copied text are assumptions; traces that were recorded have their own.
struct Category {
    name: &'static str,
    /// Mean tokens of the output, exponentially distributed.
    output: f64,
    copy: f64,
    /// Its weight in each mix.
    weights: [f64; 3],
}

const CATEGORIES: [Category; 4] = [
    Category { name: "code", output: 256.0, copy: 0.5, weights: [0.3, 0.7, 0.1] },
    Category { name: "math", output: 256.0, copy: 0.35, weights: [0.25, 0.1, 0.1] },
    Category { name: "knowledge", output: 96.0, copy: 0.2, weights: [0.25, 0.1, 0.7] },
    Category { name: "chat", output: 160.0, copy: 0.25, weights: [0.2, 0.1, 0.1] },
];

/// Fewest tokens of a prompt, the least share of the context that it takes, and the range of an output.
const LEAST_PROMPT: f64 = 16.0;
const LEAST_SHARE: f64 = 1.0 / 8.0;
const OUTPUTS: (f64, f64) = (8.0, 1024.0);

/// Makes a trace. Prompts are evenly spread over the logarithm, from an eighth of the context to all that the output
/// leaves.
pub fn make(options: &TraceOptions) -> Vec<TraceRequest> {
    let mut random = Random::new(options.seed);
    let weights = CATEGORIES.map(|c| c.weights[options.mix as usize]);
    let context = f64::from(options.context.max(32));
    let mut arrival = 0.0;
    let request = |_| {
        let category = &CATEGORIES[random.weighted(&weights)];
        let (least, most) = OUTPUTS;
        let output = random.exponential(category.output).clamp(least, most.min(context / 2.0)).round();
        let low = LEAST_PROMPT.max(context * LEAST_SHARE);
        let prompt = random.log_uniform(low, (context - output).max(low)).round();
        if options.rate.is_finite() && options.rate > 0.0 {
            arrival += random.exponential(1.0 / options.rate);
        }
        TraceRequest {
            arrival: (arrival * 1e3).round() / 1e3,
            category: category.name.to_owned(),
            prompt: prompt as u32,
            output: output as u32,
            copy: category.copy,
        }
    };
    (0..options.requests).map(request).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_trace_within_its_context() {
        let options = TraceOptions { mix: Mix::Code, requests: 2000, context: 2048, rate: 4.0, seed: 3 };
        let trace = make(&options);
        assert_eq!(trace, make(&options));
        assert_ne!(trace, make(&TraceOptions { seed: 4, ..options }));
        assert!(trace.iter().all(|r| r.prompt + r.output <= 2048 && r.prompt >= 256 && r.output >= 8));
        let code = trace.iter().filter(|r| r.category == "code").count();
        assert!((1300..1500).contains(&code), "{code}");
        let last = trace[trace.len() - 1].arrival;
        assert!((450.0..550.0).contains(&last), "{last}");
        assert!(trace.windows(2).all(|w| w[0].arrival <= w[1].arrival));
        let at_once = make(&TraceOptions { rate: f64::INFINITY, context: 1, ..options });
        assert!(at_once.iter().all(|r| r.arrival == 0.0 && r.prompt >= 16));
    }
}
