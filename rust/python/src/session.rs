//! `Session` and `Batch`: sequences being generated, one by one or many in one pass.

use crate::arrays::{self, Floats};
use crate::door;
use crate::errors::{InvalidValueError, ShapeError, to_python};
use crate::model::{Model, Shared};
use numpy::PyArrayDyn;
use pyo3::prelude::*;
use std::sync::{Arc, MutexGuard};
use subgpt_core::fork::Lock;
use subgpt_core::model::arena::Arena;
use subgpt_core::model::session::{Part, Session as CoreSession, append_all, sample_all};
use subgpt_core::model::speculation::{Guess, Lookup, Speculation, draft};
use subgpt_core::sampling::logprobs::Logprobs;
use subgpt_core::sampling::{History, Options, probabilities};
use subgpt_core::{Error, Result};

/// A log probability, and the most probable ids with theirs.
pub type TokenLogprob = (f64, Vec<(u32, f64)>);

pub fn plain(found: Logprobs) -> TokenLogprob {
    (found.logprob, found.top)
}

/// One sequence being generated.
#[pyclass(frozen)]
pub struct Session {
    shared: Arc<Shared>,
    session: Lock<CoreSession>,
}

impl Session {
    pub fn new(py: Python<'_>, shared: Arc<Shared>) -> PyResult<Session> {
        let session = door::enter(py, || CoreSession::new(&*shared.read()?))?;
        Ok(Session { shared, session: Lock::new("session", session) })
    }

    fn lock(&self) -> Result<MutexGuard<'_, CoreSession>> {
        self.session.lock()
    }
}

#[pymethods]
impl Session {
    fn append(&self, py: Python<'_>, ids: &Bound<'_, PyAny>) -> PyResult<()> {
        let ids = arrays::ids_1d(ids, "ids")?;
        door::enter(py, || self.lock()?.append(&*self.shared.read()?, &ids))
    }

    fn logits<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let logits = door::enter(py, || Ok(self.lock()?.logits().to_vec()))?;
        arrays::to_numpy_flat(py, logits)
    }

    fn fork(&self, py: Python<'_>) -> PyResult<Session> {
        let session = door::enter(py, || self.lock()?.fork())?;
        Ok(Session { shared: self.shared.clone(), session: Lock::new("session", session) })
    }

    fn prefix(&self, py: Python<'_>, length: usize) -> PyResult<Option<Session>> {
        let session = door::enter(py, || self.lock()?.prefix(length))?;
        Ok(session.map(|session| Session { shared: self.shared.clone(), session: Lock::new("session", session) }))
    }

    /// Guesses up to `tokens` tokens ahead: what followed the last `longest` ones, or fewer, before, or what `draft`
    /// would write; none with 0.
    #[pyo3(signature = (tokens, longest=2, draft=None))]
    fn speculate(
        &self,
        py: Python<'_>,
        tokens: usize,
        longest: usize,
        draft: Option<PyRef<'_, Model>>,
    ) -> PyResult<()> {
        let draft = draft.map(|model| model.shared.clone());
        door::enter(py, || {
            let guess: Box<dyn Guess> = match draft {
                _ if tokens == 0 => {
                    self.lock()?.speculate(None);
                    return Ok(());
                }
                None => Box::new(Lookup { longest }),
                Some(shared) if Arc::ptr_eq(&shared, &self.shared) => {
                    let remedy = "a model cannot guess for itself; give a smaller one with the same tokenizer";
                    return Err(Error::value("speculate", "draft", "the model of this session", remedy));
                }
                Some(shared) => Box::new(Draft::new(shared)?),
            };
            self.lock()?.speculate(Some(Speculation::new(guess, tokens)?));
            Ok(())
        })
    }

    /// How many tokens were guessed, and how many of these were drawn.
    #[getter]
    fn guesses(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        let count = door::enter(py, || Ok(self.lock()?.guesses()))?;
        Ok((count.made, count.right))
    }

    #[getter]
    fn cache_bytes(&self, py: Python<'_>) -> PyResult<usize> {
        door::enter(py, || Ok(self.lock()?.cache_bytes()))
    }

    #[pyo3(signature = (options, mask=None))]
    fn sample(&self, py: Python<'_>, options: &str, mask: Option<&[u8]>) -> PyResult<u32> {
        door::enter(py, || self.lock()?.sample(&Options::from_json(options)?, mask))
    }

    fn best(&self, py: Python<'_>, options: &str, n: usize) -> PyResult<Vec<(u32, f64)>> {
        door::enter(py, || self.lock()?.best(&Options::from_json(options)?, n))
    }

    fn logprobs(&self, py: Python<'_>, id: u32, n: usize) -> PyResult<TokenLogprob> {
        door::enter(py, || self.lock()?.logprobs(id, n)).map(plain)
    }

    /// Samples and appends.
    fn run<'py>(
        &self,
        py: Python<'py>,
        max_new_tokens: usize,
        options: &str,
        stop_ids: Vec<u32>,
    ) -> PyResult<Bound<'py, PyArrayDyn<u32>>> {
        let new = door::enter_long(py, None, |listener| {
            let options = Options::from_json(options)?;
            self.lock()?.run(&*self.shared.read()?, max_new_tokens, &options, &stop_ids, listener)
        })?;
        arrays::to_numpy_flat(py, new)
    }

    #[getter]
    fn ids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArrayDyn<u32>>> {
        let ids = door::enter(py, || Ok(self.lock()?.ids().to_vec()))?;
        arrays::to_numpy_flat(py, ids)
    }
}

/// A model that guesses what another will write.
struct Draft {
    shared: Arc<Shared>,
    session: CoreSession,
}

impl Draft {
    fn new(shared: Arc<Shared>) -> Result<Draft> {
        let session = CoreSession::new(&*shared.read()?)?;
        Ok(Draft { shared, session })
    }
}

impl Guess for Draft {
    fn guess(&mut self, ids: &[u32], most: usize) -> Result<Vec<u32>> {
        // Another model is being read now. Waiting for this one could be waiting for a thread that waits for the other: no
        // guess changes what is written.
        match self.shared.try_read()? {
            Some(model) => draft(&model, &mut self.session, ids, most),
            None => Ok(Vec::new()),
        }
    }

    fn fork(&self) -> Result<Box<dyn Guess>> {
        Ok(Box::new(Draft { shared: self.shared.clone(), session: self.session.fork()? }))
    }
}

/// Sessions of one model that read and draw together.
#[pyclass(frozen)]
pub struct Batch {
    shared: Arc<Shared>,
    arena: Lock<Arena>,
}

impl Batch {
    /// The sessions must be of this model, each once, and have one of `others` each.
    fn check(&self, sessions: &[Py<Session>], name: &str, others: usize) -> PyResult<()> {
        if others != sessions.len() {
            let message = format!("{others} {name} for {} sessions; give each its own", sessions.len());
            return Err(ShapeError::new_err(message));
        }
        for (at, session) in sessions.iter().enumerate() {
            if sessions[..at].iter().any(|other| other.is(session)) {
                return Err(InvalidValueError::new_err(format!("session {at} is given twice; fork it")));
            }
            if !Arc::ptr_eq(&session.get().shared, &self.shared) {
                return Err(InvalidValueError::new_err(format!("session {at} is of another model")));
            }
        }
        Ok(())
    }
}

/// Calls `f` with all sessions locked; two calls at once lock them in the same order.
fn with_locked<R>(sessions: &[Py<Session>], f: impl FnOnce(Vec<&mut CoreSession>) -> Result<R>) -> Result<R> {
    let mut order: Vec<_> = sessions.iter().enumerate().map(|(at, session)| (at, session.get())).collect();
    order.sort_by_key(|(_, session)| std::ptr::from_ref::<Session>(session) as usize);
    let locked = order.into_iter().map(|(at, session)| Ok((at, session.lock()?)));
    let mut guards = locked.collect::<Result<Vec<_>>>()?;
    guards.sort_by_key(|(at, _)| *at);
    f(guards.iter_mut().map(|(_, guard)| &mut **guard).collect())
}

#[pymethods]
impl Batch {
    #[new]
    fn new(model: &Bound<'_, Model>) -> Batch {
        Batch { shared: model.get().shared.clone(), arena: Lock::new("batch", Arena::new()) }
    }

    /// Appends to each session its ids.
    fn append(&self, py: Python<'_>, sessions: Vec<Py<Session>>, ids: Vec<Bound<'_, PyAny>>) -> PyResult<()> {
        self.check(&sessions, "ids", ids.len())?;
        let ids: Vec<Vec<u32>> = ids.iter().map(|ids| arrays::ids_1d(ids, "ids")).collect::<PyResult<_>>()?;
        door::enter(py, || {
            with_locked(&sessions, |sessions| {
                let parts = sessions.into_iter().zip(&ids).map(|(session, new)| Part { session, new });
                let mut arena = self.arena.lock()?;
                append_all(&*self.shared.read()?, &mut arena, &mut parts.collect::<Vec<_>>())
            })
        })
    }

    /// Draws a token for each session; in the place of one that cannot be drawn is the error.
    fn sample<'py>(
        &self,
        py: Python<'py>,
        sessions: Vec<Py<Session>>,
        options: Vec<String>,
        masks: Vec<Option<Vec<u8>>>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        self.check(&sessions, "options", options.len())?;
        self.check(&sessions, "masks", masks.len())?;
        let drawn = door::enter(py, || {
            let options: Vec<Options> =
                options.iter().map(|options| Options::from_json(options)).collect::<Result<_>>()?;
            with_locked(&sessions, |sessions| {
                let masks = masks.iter().map(Option::as_deref);
                Ok(sample_all(sessions.into_iter().zip(&options).zip(masks).map(|((s, o), m)| (s, o, m)).collect()))
            })
        })?;
        drawn
            .into_iter()
            .map(|id| match id {
                Ok(id) => Ok(id.into_pyobject(py)?.into_any()),
                Err(error) => Ok(to_python(error).into_value(py).into_bound(py).into_any()),
            })
            .collect()
    }
}

/// The distribution from which the next token is drawn.
#[pyfunction]
#[pyo3(signature = (logits, context, drawn, options))]
fn sampling_probs<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    context: Option<&Bound<'py, PyAny>>,
    drawn: usize,
    options: &str,
) -> PyResult<Bound<'py, PyArrayDyn<f64>>> {
    let logits = Floats::new(logits, "logits")?;
    if logits.shape().len() != 1 || logits.shape()[0] == 0 {
        let shape = logits.shape();
        return Err(ShapeError::new_err(format!("logits has shape {shape:?}, expected (vocab_size,)")));
    }
    let context = context.map_or_else(|| Ok(Vec::new()), |ids| arrays::ids_1d(ids, "context"))?;
    let data = logits.slice()?;
    let history = History { ids: &context, drawn };
    let probs: Vec<f64> =
        door::enter(py, || -> Result<_> { probabilities(data, history, &Options::from_json(options)?) })?;
    arrays::to_numpy_flat(py, probs)
}

/// Adds this file's names to the module.
pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Session>()?;
    m.add_class::<Batch>()?;
    m.add_function(wrap_pyfunction!(sampling_probs, m)?)
}
