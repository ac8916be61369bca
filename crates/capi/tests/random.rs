//! Random calls, right and wrong ones, against a model of the interface: handles, lengths and tokens are as it says, and nothing crashes.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

#[path = "common/host.rs"]
mod host;

use aio_capi::api::API;
use aio_capi::status::Status;
use aio_capi::types::{ContextHandle, EngineHandle, SequenceHandle};
use host::*;
use std::collections::HashMap;

const SEED: u64 = 20_261_201;
const CALLS: usize = 3000;

/// Pseudo-random numbers (Steele and others, SplitMix64, OOPSLA 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

/// What the interface should hold.
struct World {
    engine: EngineHandle,
    context: ContextHandle,
    /// Live sequences and their tokens.
    live: Vec<(SequenceHandle, Vec<u32>)>,
    /// Freed ones.
    dead: Vec<SequenceHandle>,
    /// The token after a text, as fresh sequences gave it.
    known: HashMap<Vec<u32>, u32>,
    random: Random,
}

impl World {
    /// The token after a text by a fresh sequence.
    fn next(&mut self, text: &[u32]) -> u32 {
        if let Some(&token) = self.known.get(text) {
            return token;
        }
        let token = plain(self.engine, text, 1)[0];
        self.known.insert(text.to_vec(), token);
        token
    }

    fn tokens(&mut self, most: usize) -> Vec<u32> {
        (0..1 + self.random.below(most)).map(|_| self.random.below(3) as u32 + 5).collect()
    }

    fn pick(&mut self) -> Option<usize> {
        (!self.live.is_empty()).then(|| self.random.below(self.live.len()))
    }

    fn create(&mut self) {
        if self.live.len() < 6 {
            self.live.push((sequence(self.engine), Vec::new()));
        }
    }

    fn free(&mut self) {
        let Some(at) = self.pick() else { return };
        let (handle, _) = self.live.swap_remove(at);
        // SAFETY: any handle may be passed.
        done(|e| unsafe { (API.sequence_free)(handle, e) });
        self.dead.push(handle);
    }

    fn append(&mut self) {
        let (Some(at), tokens) = (self.pick(), self.tokens(4)) else { return };
        if self.live[at].1.len() + tokens.len() > 40 {
            return;
        }
        let token = append(self.context, self.live[at].0, &tokens);
        self.live[at].1.extend(&tokens);
        let text = self.live[at].1.clone();
        assert_eq!(token, self.next(&text), "{text:?}");
    }

    fn verify(&mut self) {
        let (Some(at), mut drafts) = (self.pick(), self.tokens(3)) else { return };
        if self.live[at].1.len() + 1 + drafts.len() > 40 {
            return;
        }
        let last = 5 + self.random.below(3) as u32;
        let mut text = self.live[at].1.clone();
        text.push(last);
        if self.random.below(2) == 0 {
            drafts[0] = self.next(&text);
        }
        let (accepted, token) = verify(self.context, self.live[at].0, last, &drafts);
        for (i, draft) in drafts.iter().enumerate() {
            let right = self.next(&text) == *draft;
            assert_eq!(right, i < accepted as usize, "{text:?} {drafts:?} {accepted}");
            if !right {
                break;
            }
            text.push(*draft);
        }
        assert_eq!(token, self.next(&text));
        self.live[at].1 = text;
    }

    fn truncate(&mut self) {
        let Some(at) = self.pick() else { return };
        let len = self.random.below(self.live[at].1.len() + 3);
        let (handle, text) = &mut self.live[at];
        // SAFETY: null is allowed.
        let (status, _) = said(|e| unsafe { (API.sequence_truncate)(*handle, len as u64, std::ptr::null_mut(), e) });
        assert_eq!(status == Status::Ok as i32, len <= text.len());
        text.truncate(len);
    }

    fn fork(&mut self) {
        let Some(at) = self.pick() else { return };
        let (mut copy, len) = (SequenceHandle { id: 0 }, self.random.below(45));
        if self.live.len() < 6 {
            // SAFETY: the place is live.
            done(|e| unsafe { (API.sequence_fork)(self.live[at].0, len as u64, &mut copy, e) });
            let text = self.live[at].1.iter().copied().take(len).collect();
            self.live.push((copy, text));
        }
    }

    /// Uses what no longer exists, or never did.
    fn misuse(&mut self) {
        let made_up = SequenceHandle { id: (self.random.below(1 << 20) as u64) << self.random.below(40) };
        let dead = if self.dead.is_empty() { made_up } else { self.dead[self.random.below(self.dead.len())] };
        let handle = if self.random.below(2) == 0 { dead } else { made_up };
        if self.live.iter().any(|(live, _)| *live == handle) {
            return;
        }
        let (mut out, mut copy, mut length) = (outputs(), SequenceHandle { id: 0 }, 0);
        let (tokens, none) = ([5_u32], std::ptr::null_mut());
        // SAFETY: any handle may be passed; the places are live.
        let status = unsafe {
            match self.random.below(5) {
                0 => (API.sequence_free)(handle, none),
                1 => (API.sequence_get_length)(handle, &mut length, none),
                2 => (API.sequence_fork)(handle, 1, &mut copy, none),
                3 => (API.sequence_truncate)(handle, 0, std::ptr::null_mut(), none),
                _ => (API.append)(self.context, handle, tokens.as_ptr(), 1, 1, std::ptr::null(), &mut out, none),
            }
        };
        assert_eq!(status, Status::InvalidHandle as i32);
    }
}

#[test]
fn random_calls_do_what_the_model_says() {
    eprintln!("seed {SEED}, {CALLS} calls");
    let (_, engine) = engine(8);
    let context = context(engine);
    let (random, known) = (Random(SEED), HashMap::new());
    let mut world = World { engine, context, live: Vec::new(), dead: Vec::new(), known, random };
    for _ in 0..CALLS {
        match world.random.below(9) {
            0 => world.create(),
            1 => world.free(),
            2 | 3 => world.append(),
            4 | 5 => world.verify(),
            6 => world.truncate(),
            7 => world.fork(),
            _ => world.misuse(),
        }
        for (handle, text) in &world.live {
            assert_eq!(length(*handle) as usize, text.len());
        }
    }
    assert!(world.known.len() > 200 && world.dead.len() > 100, "{} {}", world.known.len(), world.dead.len());
}
