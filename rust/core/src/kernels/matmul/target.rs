//! Where the sums of a product go: added up in float32 block by block, then finished.
//!
//! Sums of a float32 output with at most bias and residual are added up in the output itself, by the microkernels, in
//! registers. For every other output the last block's sums come into a strip that stays in L1 and are finished from
//! there ([`Target::finish`]); those of earlier blocks wait in the first float32 output, or in a buffer of the product
//! where there is none.

use super::grid::Grid;
use super::matrix::{Matrix, MatrixMut};
use super::micro::{HalfTile, Micro, Tile};
use super::operand::Operand;
use super::output::Output;
use crate::kernels::Beta;
use crate::kernels::activation::Activation;
use crate::simd::{Element, Isa, Kernel, LANES, Simd, bf16, dispatch, prefetch};
use std::ops::Range;

/// The output of a product, shared by its tasks.
pub struct Target<'a> {
    /// Where sums of several blocks of depth add up; may be absent for outputs of one block that are finished.
    sums: Option<Grid<'a, f32>>,
    /// Whether the first block's sums are added to what `sums` holds; if not, it must not be read before.
    adds: bool,
    bias: Option<&'a [f32]>,
    residual: Option<Operand<'a, f32>>,
    finish: Option<Finish<'a>>,
}

/// What is done with finished sums where the microkernel cannot.
enum Finish<'a> {
    /// `c = or += sums`
    Round(Grid<'a, bf16>, Beta),
    Float(Activated<'a, f32>),
    Half(Activated<'a, bf16>),
}

/// The matrices of an activation, forward or backward.
struct Activated<'a, E> {
    activation: Activation,
    /// Backward: what went into the activation.
    input: Option<Operand<'a, E>>,
    /// Forward: what goes into the activation; backward: its gradient.
    pre: Grid<'a, E>,
    act: Grid<'a, E>,
}

impl<E: Element> Activated<'_, E> {
    fn fetch(&self, rows: &Range<usize>, columns: &Range<usize>) {
        if let Some(input) = &self.input {
            rows.clone().for_each(|i| prefetch(input.run(i, columns.clone())));
        }
        self.pre.fetch(rows, columns);
        self.act.fetch(rows, columns);
    }
}

/// A block of depth: whether it is the first of a product, and whether it is the last.
#[derive(Clone, Copy)]
pub struct Step {
    /// Nothing has been written yet.
    pub first: bool,
    /// The epilogue is due.
    pub last: bool,
}

impl<'a> Target<'a> {
    /// The target of an output that was checked.
    pub fn new(output: Output<'a>) -> Target<'a> {
        let plain = Target { sums: None, adds: false, bias: None, residual: None, finish: None };
        match output {
            Output::Sums { c, beta, bias, residual } => {
                let plain = Target { bias, residual: residual.map(Operand::new), ..plain };
                match c {
                    MatrixMut::Float(c) => Target { sums: Some(Grid::new(c)), adds: beta == Beta::Accumulate, ..plain },
                    MatrixMut::Half(c) => Target { finish: Some(Finish::Round(Grid::new(c), beta)), ..plain },
                }
            }
            Output::Activated { pre, act, activation, bias } => {
                Target { bias, ..plain }.activated(activation, None, pre, act)
            }
            Output::ActivatedBackward { pre, d_pre, act, activation } => {
                plain.activated(activation, Some(pre), d_pre, act)
            }
        }
    }

    fn activated(
        self,
        activation: Activation,
        input: Option<Matrix<'a>>,
        pre: MatrixMut<'a>,
        act: MatrixMut<'a>,
    ) -> Target<'a> {
        match (pre, act) {
            (MatrixMut::Float(pre), MatrixMut::Float(act)) => {
                let input = input.and_then(|x| if let Matrix::Float(x) = x { Some(Operand::new(x)) } else { None });
                let (pre, act) = (Grid::new(pre), Grid::new(act));
                Target {
                    sums: Some(pre),
                    finish: Some(Finish::Float(Activated { activation, input, pre, act })),
                    ..self
                }
            }
            (MatrixMut::Half(pre), MatrixMut::Half(act)) => {
                let input = input.and_then(|x| if let Matrix::Half(x) = x { Some(Operand::new(x)) } else { None });
                let (pre, act) = (Grid::new(pre), Grid::new(act));
                Target { finish: Some(Finish::Half(Activated { activation, input, pre, act })), ..self }
            }
            _ => unreachable!("checked to be of one type"),
        }
    }

    /// Whether sums of several blocks of depth have no place to add up in.
    pub fn lacks_sums(&self) -> bool {
        self.sums.is_none()
    }

    /// The same with a place for sums.
    pub fn with_sums(self, sums: Grid<'a, f32>) -> Target<'a> {
        Target { sums: Some(sums), ..self }
    }

    /// Whether the last block's sums go through a strip to [`Target::finish`], for a microkernel.
    pub fn is_finished(&self, micro: &Micro) -> bool {
        match &self.finish {
            None => false,
            Some(Finish::Round(_, beta)) => !micro.rounds || *beta == Beta::Accumulate,
            Some(_) => true,
        }
    }

    /// Whether a block's sums are added to what `sums` holds; if not, it must not be read.
    fn adds(&self, step: Step) -> bool {
        !step.first || self.adds
    }

    fn sums(&self) -> &Grid<'a, f32> {
        self.sums.as_ref().expect("given by the product where there are several blocks")
    }

    /// What the microkernel does with the sums of `a` (packed, `units` by rows) and `b` (packed, `units` by columns).
    ///
    /// While the tile is in use nobody else may use these rows and columns of the output.
    #[inline(always)]
    pub fn tile<'t>(
        &'t self,
        rows: Range<usize>,
        columns: Range<usize>,
        step: Step,
        units: usize,
        a: &'t [u32],
        b: &'t [u32],
    ) -> Tile<'t> {
        // Sums that are rounded at once may have no place of their own.
        let (c, c_stride) = match &self.sums {
            Some(sums) => (sums.start(&rows, &columns), sums.row_stride()),
            None => (std::ptr::null_mut(), 0),
        };
        let half = match &self.finish {
            Some(Finish::Round(half, Beta::Overwrite)) if step.last => {
                Some(HalfTile { start: half.start(&rows, &columns), stride: half.row_stride() })
            }
            _ => None,
        };
        Tile {
            units,
            rows: rows.len(),
            columns: columns.len(),
            a,
            b,
            c,
            c_stride,
            half,
            add: self.adds(step),
            bias: self.bias.filter(|_| step.last).map(|bias| &bias[columns.clone()]),
            residual: self.residual.as_ref().filter(|_| step.last),
            row: rows.start,
            column: columns.start,
        }
    }

    /// Asks for what [`Target::finish`] will read and write to come into the cache: rows are far apart, so nothing else
    /// brings them in time.
    pub fn fetch(&self, rows: &Range<usize>, columns: &Range<usize>) {
        match &self.finish {
            Some(Finish::Float(activated)) => activated.fetch(rows, columns),
            Some(Finish::Half(activated)) => activated.fetch(rows, columns),
            Some(Finish::Round(c, _)) => c.fetch(rows, columns),
            None => {}
        }
    }

    /// Finishes the last block's sums of `rows` and `columns`: those of a row are in `strip`, `width` from one row to the
    /// next, and are changed.
    ///
    /// # Safety
    /// While the call runs nobody else may use these elements of the output.
    pub unsafe fn finish(
        &self,
        isa: Isa,
        rows: Range<usize>,
        columns: Range<usize>,
        step: Step,
        strip: &mut [f32],
        width: usize,
    ) {
        let earlier = if step.first { None } else { Some(self.sums()) };
        if earlier.is_some() || self.bias.is_some() || self.residual.is_some() {
            let (rows, columns, strip) = (rows.clone(), columns.clone(), &mut *strip);
            dispatch(isa, Adding { target: self, earlier, rows, columns, strip, width });
        }
        match self.finish.as_ref().expect("asked before") {
            Finish::Round(c, beta) => dispatch(isa, Round { c, beta: *beta, rows, columns, sums: strip, width }),
            Finish::Float(activated) => dispatch(isa, Finishing { activated, rows, columns, sums: strip, width }),
            Finish::Half(activated) => dispatch(isa, Finishing { activated, rows, columns, sums: strip, width }),
        }
    }

    /// Writes a block's sums of `rows` and `columns`, as the microkernels do: those of a row are in `strip`, `width` from one
    /// row to the next, and are changed.
    ///
    /// # Safety
    /// While the call runs nobody else may use these elements of the output.
    pub unsafe fn write(
        &self,
        isa: Isa,
        rows: Range<usize>,
        columns: Range<usize>,
        step: Step,
        strip: &mut [f32],
        width: usize,
    ) {
        if step.last && self.finish.is_some() {
            // SAFETY: passed on from the caller.
            return unsafe { self.finish(isa, rows, columns, step, strip, width) };
        }
        dispatch(isa, Writing { target: self, rows, columns, step, strip, width });
    }
}

/// `strip += earlier sums`, then bias, then residual: some rows and columns; made by [`Target::finish`], whose caller alone
/// uses these elements.
struct Adding<'a> {
    target: &'a Target<'a>,
    earlier: Option<&'a Grid<'a, f32>>,
    rows: Range<usize>,
    columns: Range<usize>,
    strip: &'a mut [f32],
    width: usize,
}

impl Kernel for Adding<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Target { bias, residual, .. } = self.target;
        let bias = bias.map(|bias| &bias[self.columns.clone()]);
        for (i, sums) in self.rows.zip(self.strip.chunks_mut(self.width)) {
            let sums = &mut sums[..self.columns.len()];
            // SAFETY: whoever made this promises that nobody else uses these elements.
            let earlier = self.earlier.map(|earlier| unsafe { &*earlier.run_mut(i, self.columns.clone()) });
            let residual = residual.as_ref().map(|residual| residual.run(i, self.columns.clone()));
            for at in (0..sums.len()).step_by(LANES) {
                let mut x = s.load_at(sums, at, 0.0);
                for term in [earlier, bias, residual].into_iter().flatten() {
                    x = s.add(x, s.load_at(term, at, 0.0));
                }
                s.store_at(sums, at, x);
            }
        }
    }
}

/// `c = or += strip`, then bias, then residual: some rows and columns; made by [`Target::write`], whose caller alone uses
/// these elements.
struct Writing<'a> {
    target: &'a Target<'a>,
    rows: Range<usize>,
    columns: Range<usize>,
    step: Step,
    strip: &'a [f32],
    width: usize,
}

impl Kernel for Writing<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Writing { target, rows, columns, step, strip, width } = self;
        let bias = target.bias.filter(|_| step.last).map(|bias| &bias[columns.clone()]);
        let residual = target.residual.as_ref().filter(|_| step.last);
        for (i, sums) in rows.zip(strip.chunks(width)) {
            // SAFETY: whoever made this promises that nobody else uses these elements.
            let c = unsafe { target.sums().run_mut(i, columns.clone()) };
            let residual = residual.map(|residual| residual.run(i, columns.clone()));
            for at in (0..c.len()).step_by(LANES) {
                let mut x = s.load_at(sums, at, 0.0);
                if target.adds(step) {
                    x = s.add(s.load_at(c, at, 0.0), x);
                }
                for term in [bias, residual].into_iter().flatten() {
                    x = s.add(x, s.load_at(term, at, 0.0));
                }
                s.store_at(c, at, x);
            }
        }
    }
}

/// `c = or += sums`, rounded; made by [`Target::finish`], whose caller alone uses these elements.
struct Round<'a> {
    c: &'a Grid<'a, bf16>,
    beta: Beta,
    rows: Range<usize>,
    columns: Range<usize>,
    sums: &'a [f32],
    width: usize,
}

impl Kernel for Round<'_> {
    type Output = ();
    const BF16: bool = true;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (i, sums) in self.rows.zip(self.sums.chunks(self.width)) {
            // SAFETY: whoever made this promises that nobody else uses these elements.
            let c = unsafe { self.c.run_mut(i, self.columns.clone()) };
            for at in (0..c.len()).step_by(LANES) {
                let sum = s.load_at(sums, at, 0.0);
                let sum = match self.beta {
                    Beta::Overwrite => sum,
                    Beta::Accumulate => s.add(bf16::load_at(s, c, at, 0.0), sum),
                };
                bf16::store_at(s, c, at, sum);
            }
        }
    }
}

/// An activation, forward or backward; made by [`Target::finish`], whose caller alone uses these elements.
struct Finishing<'a, E> {
    activated: &'a Activated<'a, E>,
    rows: Range<usize>,
    columns: Range<usize>,
    sums: &'a [f32],
    width: usize,
}

impl<E: Element> Kernel for Finishing<'_, E> {
    type Output = ();
    const BF16: bool = E::HALF;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Activated { activation, input, pre, act } = self.activated;
        for (i, sums) in self.rows.zip(self.sums.chunks(self.width)) {
            // SAFETY: whoever made this promises that nobody else uses these elements; the two are different matrices.
            let (pre, act) = unsafe { (pre.run_mut(i, self.columns.clone()), act.run_mut(i, self.columns.clone())) };
            let input = input.as_ref().map(|input| input.run(i, self.columns.clone()));
            let ((pre, pre_tail), (act, act_tail)) = (pre.as_chunks_mut(), act.as_chunks_mut());
            let (sums, sums_tail) = sums[..self.columns.len()].as_chunks();
            let tail = s.load_tail(sums_tail, 0.0);
            match input {
                None => {
                    for ((pre, act), x) in pre.iter_mut().zip(act).zip(sums) {
                        let x = s.load(x);
                        E::store(s, pre, x);
                        E::store(s, act, activation.value::<E, S>(s, x));
                    }
                    if !sums_tail.is_empty() {
                        E::store_tail(s, pre_tail, tail);
                        E::store_tail(s, act_tail, activation.value::<E, S>(s, tail));
                    }
                }
                Some(input) => {
                    let (input, input_tail) = input.as_chunks();
                    for (((pre, act), x), input) in pre.iter_mut().zip(act).zip(sums).zip(input) {
                        let (value, slope) = activation.value_and_slope::<E, S>(s, E::load(s, input));
                        E::store(s, pre, s.mul(s.load(x), slope));
                        E::store(s, act, value);
                    }
                    if !sums_tail.is_empty() {
                        let (value, slope) = activation.value_and_slope::<E, S>(s, E::load_tail(s, input_tail, 0.0));
                        E::store_tail(s, pre_tail, s.mul(tail, slope));
                        E::store_tail(s, act_tail, value);
                    }
                }
            }
        }
    }
}
