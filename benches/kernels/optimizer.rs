//! Optimizer steps against a plain pass over as many streams, in turns: what share of the memory's speed a step has.
//!
//! `cargo bench -p subgpt-benches --bench optimizer` prints, for each size of model, the best and the median time of
//! each, and the plain pass's best over the step's.

use std::time::Instant;
use subgpt_core::buffer::Buffer;
use subgpt_core::model::Gpt;
use subgpt_core::model::config::Config as Shape;
use subgpt_core::model::rows::{Labels, Rows};
use subgpt_core::optim::config::{AdjustLr, Decay};
use subgpt_core::optim::{Config, Optimizer, clip};
use subgpt_core::parallel;
use subgpt_core::simd::{Kernel, LANES, Simd, dispatch, isa};

/// Width, blocks, vocabulary and context of models of 0.8, 10.7 and 124 million parameters, and rounds of each.
const MODELS: [([usize; 4], usize); 3] =
    [([128, 4, 65, 64], 300), ([384, 6, 65, 256], 40), ([768, 12, 50257, 1024], 7)];

/// Runs of a contender in its turn; the first bring its streams back into the cache.
const RUNS: usize = 3;

fn model([n_embd, n_layer, vocab_size, block_size]: [usize; 4]) -> Gpt {
    let n_head = n_embd / 64;
    let shape = format!(
        r#"{{"vocab_size": {vocab_size}, "block_size": {block_size}, "n_layer": {n_layer}, "n_head": {n_head},
            "n_embd": {n_embd}, "n_inner": null, "bias": true, "dropout": 0.0, "activation": "gelu_new",
            "norm_eps": 1e-5, "tie_embeddings": true}}"#
    );
    let shape = Shape::from_json(&shape).expect("a configuration");
    let mut model = Gpt::new(shape, 1).expect("a model that fits memory");
    model
        .backward(Rows::new(&[1, 2, 3], 1, 3), Labels::new(&[2, 3, 4], -100), 1.0)
        .expect("a batch that fits the model");
    model
}

/// Adds `g` to every stream: as many reads and writes as an update of `N - 1` numbers of state.
struct Plain<'a, const N: usize> {
    streams: [&'a mut [f32]; N],
    g: &'a [f32],
}

impl<const N: usize> Kernel for Plain<'_, N> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (g, _) = self.g.as_chunks::<LANES>();
        let streams = self.streams.map(|stream| stream.as_chunks_mut::<LANES>().0);
        for i in 0..g.len() {
            let g = s.load(&g[i]);
            for j in 0..N {
                let sum = s.add(s.load(&streams[j][i]), g);
                s.store(&mut streams[j][i], sum);
            }
        }
    }
}

/// A plain pass over `N` streams and gradients.
fn plain<const N: usize>(mut streams: [&mut [f32]; N], g: &[f32]) {
    let isa = isa::current();
    let parts = g.chunks(1 << 15).map(|g| {
        let streams = streams.each_mut().map(|stream| stream.split_off_mut(..g.len()).expect("streams of one length"));
        Plain { streams, g }
    });
    parallel::for_each(parts, |_, part| dispatch(isa, part));
}

/// Times in milliseconds.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn take(&mut self, mut work: impl FnMut()) {
        let run = |_| {
            let begin = Instant::now();
            work();
            begin.elapsed().as_secs_f64() * 1e3
        };
        self.0.push((0..RUNS).map(run).fold(f64::INFINITY, f64::min));
    }

    fn best(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }

    fn line(&self, name: &str, bytes: usize, floor: Option<&Times>) {
        let rate = bytes as f64 / self.best() / 1e6;
        let share = floor.map_or(String::new(), |floor| format!("{:6.2} %", 100.0 * floor.best() / self.best()));
        println!("  {name:<22} {:9.3} ms, median {:9.3} {rate:7.1} GB/s {share}", self.best(), self.median());
    }
}

fn main() {
    let decay = Decay::Matrices;
    let adamw = Config::Adamw { beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1, decay };
    let lion = Config::Lion { beta1: 0.9, beta2: 0.99, weight_decay: 0.1, decay };
    let muon = Config::Muon {
        momentum: 0.95,
        adjust_lr: AdjustLr::Original,
        adam_rate: 0.05,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.1,
        decay,
    };
    for (size, rounds) in MODELS {
        let mut model = model(size);
        let n = model.layout.total;
        let buffer = || Buffer::zeros(n, "bench").expect("room for the streams");
        let [mut a, mut b, mut c, g] = [buffer(), buffer(), buffer(), buffer()];
        let mut optimizers =
            [adamw.clone(), lion.clone(), muon.clone()].map(|config| Optimizer::new(&model, config).expect("numbers"));
        let mut times: [Times; 6] = Default::default();
        for round in 0..rounds {
            let [of_four, of_three, clipping, steps @ ..] = &mut times;
            of_four.take(|| plain([&mut a, &mut b, &mut c], &g));
            steps[0].take(|| optimizers[0].step(&mut model, 1e-6).expect("a step"));
            of_three.take(|| plain([&mut a, &mut b], &g));
            steps[1].take(|| optimizers[1].step(&mut model, 1e-6).expect("a step"));
            clipping.take(|| {
                clip::clip(model.update_parts().1.expect("gradients"), 1e9);
            });
            if round % 10 == 0 {
                steps[2].take(|| optimizers[2].step(&mut model, 1e-6).expect("a step"));
            }
        }
        println!(
            "{:.1} million parameters, {} threads, {}",
            n as f64 / 1e6,
            parallel::num_threads(),
            isa::current().name()
        );
        let [of_four, of_three, clipping, adamw, lion, muon] = &times;
        of_four.line("plain, 4 in, 3 out", 28 * n, None);
        adamw.line("AdamW", 28 * n, Some(of_four));
        of_three.line("plain, 3 in, 2 out", 20 * n, None);
        lion.line("Lion", 20 * n, Some(of_three));
        clipping.line("clip_grad_norm", 4 * n, None);
        muon.line("Muon", 20 * n, None);
    }
}
