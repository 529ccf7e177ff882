//! Muon: momentum, orthogonalised (Jordan et al. 2024), for the matrices of the blocks; [`super::adamw`] takes the rest.
//!
//! ```text
//! b = momentum b + (1 - momentum) g            u = momentum b + (1 - momentum) g      (Nesterov)
//! w = (1 - lr weight_decay) w - lr scale orthogonal(u)
//! scale = sqrt(max(1, out / in))               or 0.2 sqrt(max(out, in))
//! ```
//!
//! as `torch.optim.Muon`; `out` and `in` are the columns of a layer's results and inputs, however its matrix lies. Query,
//! key and value projections are matrices of their own also where one tensor holds all three; the heads of each are
//! not told apart. Embeddings, the output projection and vectors are not matrices in this sense.
//!
//! Many small matrices are computed side by side, each by one thread; few or large ones one after the other, each by all
//! threads. Both ways give the same bits.

use super::Weights;
use super::config::AdjustLr;
use super::newton_schulz::{Shape, orthogonalize};
use super::state::Moment;
use crate::buffer::{Buffer, Carver, padded};
use crate::error::Result;
use crate::model::params::Tensor;
use crate::parallel;
use crate::simd::{Isa, Kernel, Simd, dispatch, isa};
use ndarray::{ArrayView2, ArrayViewMut2, Axis};
use std::cmp::Reverse;
use std::sync::{Mutex, PoisonError};

/// Matrices from which on one thread takes each.
const MANY: usize = 16;

/// Multiply-adds of a product (1024 cubed) from which on a matrix has work for all threads.
const LARGE: usize = 1 << 30;

/// Floats of one task of a pass over a matrix.
const TASK: usize = 1 << 15;

/// The numbers of one step.
#[derive(Clone, Copy, Debug)]
pub struct Muon {
    /// lr
    pub learning_rate: f64,
    /// Share of the momentum that is kept.
    pub momentum: f64,
    /// Share of the weight that is taken away, times `lr`.
    pub weight_decay: f64,
    /// How rates follow from shapes.
    pub adjust_lr: AdjustLr,
}

impl Muon {
    fn rate(&self, n_in: usize, n_out: usize) -> f64 {
        let (n_in, n_out) = (n_in as f64, n_out as f64);
        let scale = match self.adjust_lr {
            AdjustLr::Original => (n_out / n_in).max(1.0).sqrt(),
            AdjustLr::MatchRmsAdamw => 0.2 * n_out.max(n_in).sqrt(),
        };
        self.learning_rate * scale
    }
}

/// Whether `tensor` is orthogonalised: a matrix of a block. Names of what lies in a block have its number in them.
pub fn takes(tensor: &Tensor) -> bool {
    tensor.shape.len() == 2 && tensor.name.split('.').any(|part| part.parse::<usize>().is_ok())
}

/// One step of `weights`, all of which [`takes`] is true for.
pub fn step(muon: Muon, weights: Weights<'_>, momentum: &mut Moment, rooms: &mut Rooms) -> Result<()> {
    let Weights { isa, factor, slots } = weights;
    let mut jobs = Vec::new();
    for (slot, momentum) in slots.into_iter().zip(momentum.parts_mut()) {
        let [rows, cols] = slot.tensor.shape[..] else { continue };
        let shape = (rows, cols);
        let whole = Job {
            w: ArrayViewMut2::from_shape(shape, slot.w).expect("as many weights as the shape says"),
            g: ArrayView2::from_shape(shape, slot.g).expect("as many gradients as weights"),
            momentum: ArrayViewMut2::from_shape(shape, momentum).expect("as many numbers as weights"),
            lies: Lies::of(slot.tensor),
        };
        jobs.extend(whole.split(parts(slot.tensor)));
    }
    jobs.sort_by_key(|job| Reverse(job.shape().work()));
    let large = jobs.partition_point(|job| job.shape().work() >= LARGE);
    let alone = if jobs.len() - large < MANY { jobs.len() } else { large };
    let together = jobs.split_off(alone);
    let floats = jobs.iter().chain(&together).map(Job::room).max().unwrap_or(0);
    rooms.reserve(together.len().clamp(1, parallel::num_threads()), floats)?;
    let run = |job: Job<'_>| rooms.with(floats, |room| isa::with(isa, || job.run(isa, muon, factor, room)));
    jobs.into_iter().try_for_each(run)?;
    parallel::map(together, run).into_iter().collect()
}

/// Matrices side by side in `tensor`.
fn parts(tensor: &Tensor) -> usize {
    if tensor.name.ends_with("attn.c_attn.weight") { 3 } else { 1 }
}

/// How a matrix lies.
#[derive(Clone, Copy)]
enum Lies {
    InOut,
    OutIn,
}

impl Lies {
    /// Names tell: GPT-2's layers lie as (in, out), all others as (out, in).
    fn of(tensor: &Tensor) -> Self {
        if tensor.name.starts_with("transformer.") { Lies::InOut } else { Lies::OutIn }
    }
}

/// One matrix.
struct Job<'a> {
    w: ArrayViewMut2<'a, f32>,
    g: ArrayView2<'a, f32>,
    momentum: ArrayViewMut2<'a, f32>,
    lies: Lies,
}

impl<'a> Job<'a> {
    /// `n` matrices out of one, of as many columns each.
    fn split(self, n: usize) -> Vec<Job<'a>> {
        let width = self.w.ncols() / n;
        let mut rest = self;
        let mut jobs = Vec::new();
        for _ in 1..n {
            let (w, w_rest) = rest.w.split_at(Axis(1), width);
            let (g, g_rest) = rest.g.split_at(Axis(1), width);
            let (momentum, momentum_rest) = rest.momentum.split_at(Axis(1), width);
            jobs.push(Job { w, g, momentum, lies: rest.lies });
            rest = Job { w: w_rest, g: g_rest, momentum: momentum_rest, lies: rest.lies };
        }
        jobs.push(rest);
        jobs
    }

    fn shape(&self) -> Shape {
        let (rows, cols) = self.w.dim();
        Shape { rows, cols }
    }

    /// Floats of working space.
    fn room(&self) -> usize {
        2 * padded(self.w.len()) + self.shape().room()
    }

    fn run(mut self, isa: Isa, muon: Muon, factor: f32, room: &mut [f32]) -> Result<()> {
        let shape = self.shape();
        let rate = match self.lies {
            Lies::InOut => muon.rate(shape.rows, shape.cols),
            Lies::OutIn => muon.rate(shape.cols, shape.rows),
        };
        let mut carver = Carver::new(room);
        let [x, y] = [(); 2].map(|()| carver.take(shape.rows * shape.cols));
        let band = (TASK / shape.cols.max(1)).max(1);
        let bands = self.momentum.axis_chunks_iter_mut(Axis(0), band).zip(self.g.axis_chunks_iter(Axis(0), band));
        parallel::for_each(bands.zip(x.chunks_mut(band * shape.cols)), |_, ((momentum, g), x)| {
            let keep = muon.momentum as f32;
            dispatch(isa, Average { momentum, g, x, keep, factor });
        });
        orthogonalize(isa, shape, x, y, carver.take(shape.room()))?;
        let bands = self.w.axis_chunks_iter_mut(Axis(0), band).zip(y.chunks(band * shape.cols));
        parallel::for_each(bands, |_, (w, y)| {
            let keep = (1.0 - muon.learning_rate * muon.weight_decay) as f32;
            dispatch(isa, Apply { w, y, keep, rate: -rate as f32 });
        });
        Ok(())
    }
}

/// `b = keep b + (1 - keep) factor g`, then `x = keep b + (1 - keep) factor g`.
struct Average<'a> {
    momentum: ArrayViewMut2<'a, f32>,
    g: ArrayView2<'a, f32>,
    x: &'a mut [f32],
    keep: f32,
    factor: f32,
}

impl Kernel for Average<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (keep, share, factor) = (s.splat(self.keep), s.splat(1.0 - self.keep), s.splat(self.factor));
        let rows = self.momentum.rows_mut().into_iter().zip(self.g.rows());
        for ((mut b, g), x) in rows.zip(self.x.chunks_mut(self.g.ncols())) {
            let (Some(b), Some(g)) = (b.as_slice_mut(), g.as_slice()) else { unreachable!("rows are contiguous") };
            for at in (0..b.len()).step_by(crate::simd::LANES) {
                let g = s.mul(share, s.mul(factor, s.load_at(g, at, 0.0)));
                let new = s.fma(keep, s.load_at(b, at, 0.0), g);
                s.store_at(b, at, new);
                s.store_at(x, at, s.fma(keep, new, g));
            }
        }
    }
}

/// `w = keep w + rate y`
struct Apply<'a> {
    w: ArrayViewMut2<'a, f32>,
    y: &'a [f32],
    keep: f32,
    rate: f32,
}

impl Kernel for Apply<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (keep, rate, cols) = (s.splat(self.keep), s.splat(self.rate), self.w.ncols());
        for (mut w, y) in self.w.rows_mut().into_iter().zip(self.y.chunks(cols)) {
            let Some(w) = w.as_slice_mut() else { unreachable!("rows are contiguous") };
            for at in (0..w.len()).step_by(crate::simd::LANES) {
                let new = s.fma(rate, s.load_at(y, at, 0.0), s.mul(keep, s.load_at(w, at, 0.0)));
                s.store_at(w, at, new);
            }
        }
    }
}

/// Working space, one buffer for each matrix in work; kept from step to step.
#[derive(Default)]
pub struct Rooms(Mutex<Vec<Buffer>>);

impl Rooms {
    /// Makes `count` buffers of `floats` each, so that none has to be made in the middle of a step.
    fn reserve(&mut self, count: usize, floats: usize) -> Result<()> {
        let rooms = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        for room in &mut *rooms {
            room.ensure(floats, "optimizer working space")?;
        }
        while rooms.len() < count {
            rooms.push(Buffer::zeros(floats, "optimizer working space")?);
        }
        Ok(())
    }

    /// Lends a buffer of at least `floats`.
    fn with<R>(&self, floats: usize, work: impl FnOnce(&mut [f32]) -> Result<R>) -> Result<R> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = lock().pop();
        let mut room = match kept {
            Some(room) => room,
            None => Buffer::zeros(floats, "optimizer working space")?,
        };
        let result = work(&mut room);
        lock().push(room);
        result
    }
}
