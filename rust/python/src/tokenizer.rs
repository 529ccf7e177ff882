//! The tokenizer and its decoder stream, over the core's.

use crate::arrays::{describe, ids_1d, to_numpy, to_numpy_flat};
use crate::door;
use crate::errors::{DtypeError, InvalidValueError, TokenizerError};
use numpy::PyArrayDyn;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyBytes, PyDict, PyString};
use std::path::PathBuf;
use subgpt_core::fork::Lock;
use subgpt_core::progress::Listener;
use subgpt_core::tokenizer as core;
use subgpt_core::tokenizer::encode::EncodeOptions;
use subgpt_core::tokenizer::pretokenize::patterns::{GPT2, Pattern};
use subgpt_core::tokenizer::spans::Located;
use subgpt_core::tokenizer::special::Which;
use subgpt_core::tokenizer::train::{TrainOptions, Trainer};
use subgpt_core::tokenizer::{OnInvalid, Undecodable};

/// Texts longer than this are encoded with an eye on Ctrl-C.
const LONG: usize = 1 << 22;

/// Text taken from a Python iterator at a time.
const BLOCK: usize = 1 << 24;

type Ids<'py> = Bound<'py, PyArrayDyn<u32>>;

/// What a call allows: special tokens to recognise, those to refuse (`None` is all of them), and what to do about text
/// without an entry.
#[derive(FromPyObject)]
struct SpecialRules(Option<Vec<String>>, Option<Vec<String>>, String);

impl SpecialRules {
    fn options(&self) -> PyResult<EncodeOptions<'_>> {
        let SpecialRules(allowed, disallowed, errors) = self;
        let [allowed, disallowed] = [allowed, disallowed].map(|names| names.as_deref().map_or(Which::All, Which::Only));
        Ok(EncodeOptions { allowed, disallowed, unknown: on_invalid(errors)? })
    }
}

/// A vocabulary with everything needed to encode and decode.
#[pyclass(frozen, module = "subgpt._core")]
struct Tokenizer {
    inner: core::Tokenizer,
}

#[pymethods]
impl Tokenizer {
    /// Trains on text files and an iterable of str. Gives a tokenizer for each size, and what there was no memory for.
    #[staticmethod]
    #[pyo3(signature = (paths, texts, options, errors, progress))]
    fn train(
        py: Python<'_>,
        paths: Vec<PathBuf>,
        texts: &Bound<'_, PyAny>,
        options: &Bound<'_, PyDict>,
        errors: &str,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<(Vec<Self>, (u64, u64, u64))> {
        let (options, on_invalid) = (train_options(options)?, on_invalid(errors)?);
        let watcher = || progress.as_ref().map(|f| f.clone_ref(py));
        let mut trainer = door::enter(py, || Trainer::new(options))?;
        door::enter_long(py, watcher(), |listener| {
            paths.iter().try_for_each(|path| trainer.add_file(path, on_invalid, listener))
        })?;
        let mut texts = texts.try_iter()?;
        let mut count = 0;
        loop {
            let block = take_block(&mut texts, &mut count, on_invalid)?;
            if block.is_empty() {
                break;
            }
            door::enter_long(py, watcher(), |listener| {
                trainer.add(&block.iter().map(|text| &**text).collect::<Vec<_>>())?;
                subgpt_core::progress::report(listener, trainer.bytes(), 0)
            })?;
        }
        let trained = door::enter_long(py, watcher(), |listener| trainer.finish(listener))?;
        let left_out = (trained.left_out.pieces, trained.left_out.occurrences, trained.left_out.at_most);
        Ok((trained.tokenizers.into_iter().map(|inner| Tokenizer { inner }).collect(), left_out))
    }

    /// Loads any supported file or directory.
    #[staticmethod]
    fn load(
        py: Python<'_>,
        path: PathBuf,
        pattern: Option<&str>,
        special_tokens: Option<Vec<(String, Option<u32>)>>,
    ) -> PyResult<Self> {
        let inner = door::enter(py, || core::files::load(&path, pattern, special_tokens))?;
        Ok(Tokenizer { inner })
    }

    /// Reads the text of a `tokenizer.json`.
    #[staticmethod]
    fn from_json(py: Python<'_>, json: &str) -> PyResult<Self> {
        let inner = door::enter(py, || core::files::tokenizer_json::parse(json.as_bytes(), "json"))?;
        Ok(Tokenizer { inner })
    }

    /// Reads a file that `portable` gave.
    #[staticmethod]
    fn restore(py: Python<'_>, name: &str, bytes: &[u8]) -> PyResult<Self> {
        let inner = door::enter(py, || core::files::restore(name, bytes))?;
        Ok(Tokenizer { inner })
    }

    /// A file that holds the tokenizer: its name and content.
    fn portable<'py>(&self, py: Python<'py>) -> PyResult<(&'static str, Bound<'py, PyBytes>)> {
        let (name, bytes) = door::enter(py, || core::files::portable(&self.inner))?;
        Ok((name, PyBytes::new(py, &bytes)))
    }

    /// Writes a directory or a file.
    fn save(&self, py: Python<'_>, path: PathBuf, format: &str) -> PyResult<()> {
        let format = file_format(format)?;
        door::enter(py, || core::files::save(&self.inner, &path, format))
    }

    /// Refuses what `save` would refuse.
    fn check_target(&self, py: Python<'_>, path: PathBuf, format: &str) -> PyResult<()> {
        let format = file_format(format)?;
        door::enter(py, || core::files::check_target(&self.inner, &path, format))
    }

    /// The merges in the order of their ranks, as pairs of ids; none at levels char and word.
    fn merges(&self, py: Python<'_>) -> PyResult<Vec<(u32, u32)>> {
        door::enter(py, || Ok(self.inner.merges()))
    }

    /// The text of a `tokenizer.json`.
    fn to_json(&self, py: Python<'_>) -> PyResult<String> {
        door::enter(py, || self.inner.to_json(false))
    }

    /// Ids of a text.
    fn encode<'py>(&self, py: Python<'py>, text: &Bound<'py, PyAny>, rules: SpecialRules) -> PyResult<Ids<'py>> {
        let options = rules.options()?;
        let text = text_of(text, "text", options.unknown)?;
        let ids = watched(py, text.len(), |listener| self.inner.encode(&text, options, listener))?;
        to_numpy_flat(py, ids)
    }

    /// Ids of many texts, one after the other, and the offsets where each begins.
    fn encode_batch<'py>(
        &self,
        py: Python<'py>,
        texts: &Bound<'py, PyAny>,
        rules: SpecialRules,
    ) -> PyResult<(Ids<'py>, Bound<'py, PyArrayDyn<u64>>)> {
        let options = rules.options()?;
        let named = |(i, text): (usize, PyResult<Bound<'py, PyAny>>)| text_in(&text?, "texts", i, options.unknown);
        let texts = texts.try_iter()?.enumerate().map(named).collect::<PyResult<Vec<_>>>()?;
        let views: Vec<&str> = texts.iter().map(|text| &**text).collect();
        let (ids, offsets) = door::enter_long(py, None, |listener| self.inner.encode_batch(&views, options, listener))?;
        Ok((to_numpy_flat(py, ids)?, to_numpy_flat(py, offsets)?))
    }

    /// Ids of a text and their places in bytes and in characters, two numbers for each.
    fn encode_located<'py>(
        &self,
        py: Python<'py>,
        text: &Bound<'py, PyAny>,
        rules: SpecialRules,
    ) -> PyResult<(Ids<'py>, Bound<'py, PyArrayDyn<u64>>, Bound<'py, PyArrayDyn<u64>>)> {
        let options = rules.options()?;
        let text = text_of(text, "text", options.unknown)?;
        let Located { ids, bytes, chars } =
            watched(py, text.len(), |listener| self.inner.encode_located(&text, options, listener))?;
        let (n, flat) = (ids.len(), |spans: Vec<[u64; 2]>| spans.into_flattened());
        Ok((to_numpy_flat(py, ids)?, to_numpy(py, flat(bytes), &[n, 2])?, to_numpy(py, flat(chars), &[n, 2])?))
    }

    /// The first ids of a text, at least `least` where it has so many.
    fn encode_front<'py>(
        &self,
        py: Python<'py>,
        text: &Bound<'py, PyAny>,
        least: usize,
        rules: SpecialRules,
    ) -> PyResult<Ids<'py>> {
        let options = rules.options()?;
        let text = text_of(text, "text", options.unknown)?;
        let ids = door::enter(py, || self.inner.encode_front(&text, options, least))?;
        to_numpy_flat(py, ids)
    }

    /// The number of ids of a text.
    fn count(&self, py: Python<'_>, text: &Bound<'_, PyAny>, rules: SpecialRules) -> PyResult<usize> {
        let options = rules.options()?;
        let text = text_of(text, "text", options.unknown)?;
        watched(py, text.len(), |listener| self.inner.encode(&text, options, listener).map(|ids| ids.len()))
    }

    /// The number of ids of a text file.
    fn count_file(
        &self,
        py: Python<'_>,
        path: PathBuf,
        rules: SpecialRules,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<u64> {
        let options = rules.options()?;
        door::enter_long(py, progress, |listener| self.inner.count_file(&path, options, listener))
    }

    /// Encodes a text file into token shards; gives their paths and the number of ids.
    fn encode_file(
        &self,
        py: Python<'_>,
        path: PathBuf,
        output: PathBuf,
        shard_tokens: usize,
        rules: SpecialRules,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<(Vec<PathBuf>, u64)> {
        let options = rules.options()?;
        door::enter_long(py, progress, |listener| {
            self.inner.encode_file(&path, &output, shard_tokens, options, listener)
        })
    }

    /// The text of ids.
    fn decode(&self, py: Python<'_>, ids: &Bound<'_, PyAny>, errors: &str) -> PyResult<String> {
        let on_invalid = match errors {
            "replace" => Undecodable::Replace,
            "ignore" => Undecodable::Ignore,
            "strict" => Undecodable::Strict,
            _ => {
                let known = "known are 'replace', 'strict' and 'ignore'";
                return Err(InvalidValueError::new_err(format!("errors is {errors:?}; {known}")));
            }
        };
        let ids = ids_1d(ids, "ids")?;
        door::enter(py, || self.inner.decode(&ids, on_invalid))
    }

    /// The bytes of ids.
    fn decode_bytes<'py>(&self, py: Python<'py>, ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let ids = ids_1d(ids, "ids")?;
        let bytes = door::enter(py, || self.inner.decode_bytes(&ids))?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// The bytes that each id adds to a text that has begun.
    fn token_bytes<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let all = door::enter(py, || self.inner.token_bytes())?;
        Ok(all.iter().map(|bytes| PyBytes::new(py, bytes)).collect())
    }

    /// The entries of ids, as text.
    fn ids_to_tokens(&self, py: Python<'_>, ids: &Bound<'_, PyAny>) -> PyResult<Vec<Option<String>>> {
        let ids = ids_1d(ids, "ids")?;
        door::enter(py, || ids.iter().map(|&id| self.inner.id_to_token(id)).collect())
    }

    /// The id of an entry.
    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The ids that belong before and after a text.
    #[getter]
    fn template(&self) -> (Vec<u32>, Vec<u32>) {
        let template = self.inner.template();
        (template.before.clone(), template.after.clone())
    }

    /// Special tokens with their ids.
    #[getter]
    fn special_tokens(&self) -> Vec<(String, u32)> {
        self.inner.special_tokens().to_vec()
    }

    #[getter]
    fn vocab_size(&self) -> usize {
        self.inner.vocab_size()
    }

    #[getter]
    fn eot_id(&self) -> Option<u32> {
        self.inner.eot_id()
    }

    #[getter]
    fn unk_id(&self) -> Option<u32> {
        self.inner.unk_id()
    }

    #[getter]
    fn level(&self) -> &'static str {
        self.inner.level().name()
    }

    #[getter]
    fn pattern(&self) -> Option<&str> {
        self.inner.pattern()
    }

    #[getter]
    fn fingerprint(&self, py: Python<'_>) -> PyResult<String> {
        door::enter(py, || Ok(self.inner.fingerprint().to_string()))
    }
}

/// Ids to text one by one.
#[pyclass(frozen, module = "subgpt._core")]
struct DecodeStream {
    tokenizer: Py<Tokenizer>,
    inner: Lock<core::DecodeStream>,
}

#[pymethods]
impl DecodeStream {
    #[new]
    fn new(tokenizer: Py<Tokenizer>) -> Self {
        let inner = Lock::new("decode stream", tokenizer.get().inner.decode_stream());
        DecodeStream { tokenizer, inner }
    }

    /// Adds ids; returns the text that is now complete.
    fn push(&self, py: Python<'_>, ids: &Bound<'_, PyAny>) -> PyResult<String> {
        let ids = ids_1d(ids, "ids")?;
        let work = || self.tokenizer.get().inner.decode_next(&mut *self.inner.lock()?, &ids);
        if ids.len() == 1 { door::enter_briefly(work) } else { door::enter(py, work) }
    }

    /// Ends the text.
    fn flush(&self, py: Python<'_>) -> PyResult<String> {
        door::enter(py, || {
            let mut stream = self.inner.lock()?;
            self.tokenizer.get().inner.decode_rest(&mut stream)
        })
    }
}

/// The format of this name.
fn file_format(name: &str) -> PyResult<core::files::Format> {
    core::files::Format::from_name(name).ok_or_else(|| {
        let known = "known are \"tokenizer.json\", \"tiktoken\", \"vocab-merges\" and \"gguf\"";
        InvalidValueError::new_err(format!("format is {name:?}; {known}"))
    })
}

fn train_options(options: &Bound<'_, PyDict>) -> PyResult<TrainOptions> {
    let get =
        |name: &str| options.get_item(name)?.ok_or_else(|| InvalidValueError::new_err(format!("{name} is missing")));
    let level: String = get("level")?.extract()?;
    let known = "known are \"char\", \"word\" and \"subword\"";
    let unknown = || InvalidValueError::new_err(format!("Tokenizer.train: level is {level:?}; {known}"));
    Ok(TrainOptions {
        level: core::Level::from_name(&level).ok_or_else(unknown)?,
        pattern: get("pattern")?.extract()?,
        vocab_sizes: get("vocab_sizes")?.extract()?,
        special_tokens: get("special_tokens")?.extract()?,
        min_frequency: get("min_frequency")?.extract()?,
        max_token_length: get("max_token_length")?.extract::<Option<usize>>()?.unwrap_or(usize::MAX),
        limit_alphabet: get("limit_alphabet")?.extract()?,
        max_memory: get("max_memory")?.extract()?,
    })
}

fn on_invalid(errors: &str) -> PyResult<OnInvalid> {
    match errors {
        "replace" => Ok(OnInvalid::Replace),
        "strict" => Ok(OnInvalid::Strict),
        _ => Err(InvalidValueError::new_err(format!("errors is {errors:?}; known are \"replace\" and \"strict\""))),
    }
}

/// Runs `encode`, with an eye on Ctrl-C where the text is long.
fn watched<T: Send>(
    py: Python<'_>,
    len: usize,
    encode: impl FnOnce(&mut Listener<'_>) -> subgpt_core::Result<T> + Send,
) -> PyResult<T> {
    if len > LONG {
        door::enter_long(py, None, |listener| encode(listener))
    } else {
        door::enter(py, || encode(&mut subgpt_core::progress::ignore))
    }
}

/// An item of `list`, as [`text_of`] gives it.
fn text_in(value: &Bound<'_, PyAny>, list: &str, at: usize, on_surrogate: OnInvalid) -> PyResult<PyBackedStr> {
    match value.cast::<PyString>().ok().map(|text| PyBackedStr::try_from(text.clone())) {
        Some(Ok(text)) => Ok(text),
        _ => text_of(value, &format!("{list}[{at}]"), on_surrogate),
    }
}

/// `value` as a str that is valid Unicode, which stays where it is. Lone surrogates, which Python allows, become U+FFFD
/// or are an error.
fn text_of(value: &Bound<'_, PyAny>, name: &str, on_surrogate: OnInvalid) -> PyResult<PyBackedStr> {
    let Ok(text) = value.cast::<PyString>() else {
        return Err(DtypeError::new_err(format!("{name} must be str, not {}", describe(value))));
    };
    if let Ok(text) = PyBackedStr::try_from(text.clone()) {
        return Ok(text);
    }
    if on_surrogate == OnInvalid::Strict {
        return Err(TokenizerError::new_err(format!(
            "{name}: contains a lone surrogate, which is no character; remove it, or pass errors=\"replace\""
        )));
    }
    // Pairs that were split into two halves are joined again by the way, as in tiktoken.
    let utf16 = text.call_method1("encode", ("utf-16", "surrogatepass"))?;
    PyBackedStr::try_from(utf16.call_method1("decode", ("utf-16", "replace"))?.cast_into::<PyString>()?)
}

/// About [`BLOCK`] bytes of texts; nothing at the end.
fn take_block(
    texts: &mut Bound<'_, pyo3::types::PyIterator>,
    count: &mut usize,
    on_surrogate: OnInvalid,
) -> PyResult<Vec<PyBackedStr>> {
    let (mut block, mut size) = (Vec::new(), 0);
    for text in texts {
        let text = text_in(&text?, "source", *count, on_surrogate)?;
        *count += 1;
        size += text.len() + 64;
        block.push(text);
        if size >= BLOCK {
            break;
        }
    }
    Ok(block)
}

/// The regular expression of a split by its name; `None` for GPT-2's, which `ByteLevel` has itself. Any other string is
/// taken for a regular expression and given back.
#[pyfunction]
fn known_pattern(name: &str) -> Option<String> {
    match Pattern::from_name(name) {
        Some(GPT2) => None,
        Some(known) => Some(known.regex().to_string()),
        None => Some(name.to_string()),
    }
}

/// Adds this file's names to the module.
pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(known_pattern, m)?)?;
    m.add_class::<Tokenizer>()?;
    m.add_class::<DecodeStream>()
}
