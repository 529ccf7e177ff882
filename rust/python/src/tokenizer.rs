//! The tokenizer and its decoder stream, over the core's.

use crate::arrays::{describe, ids_1d, to_numpy};
use crate::door;
use crate::errors::{DtypeError, InvalidValueError, TokenizerError};
use numpy::PyArrayDyn;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use std::path::PathBuf;
use std::sync::Mutex;
use subgpt_core::tokenizer as core;
use subgpt_core::tokenizer::OnInvalid;
use subgpt_core::tokenizer::encode::EncodeOptions;
use subgpt_core::tokenizer::special::Which;
use subgpt_core::tokenizer::stream::Utf8Stream;
use subgpt_core::tokenizer::train::{TrainOptions, Trainer};

/// Texts longer than this are encoded with an eye on Ctrl-C.
const LONG: usize = 1 << 22;

/// Text taken from a Python iterator at a time.
const BLOCK: usize = 1 << 20;

type Ids<'py> = Bound<'py, PyArrayDyn<u32>>;

/// Special tokens that a call allows or disallows: `None` is all of them.
type Names = Option<Vec<String>>;

/// A vocabulary with everything needed to encode and decode.
#[pyclass(frozen, module = "subgpt._core")]
struct Tokenizer {
    inner: core::Tokenizer,
}

#[pymethods]
impl Tokenizer {
    /// Trains on text files and an iterable of str.
    #[staticmethod]
    #[pyo3(signature = (paths, texts, options, errors, progress))]
    fn train(
        py: Python<'_>,
        paths: Vec<PathBuf>,
        texts: &Bound<'_, PyAny>,
        options: &Bound<'_, PyDict>,
        errors: &str,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
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
                trainer.add(&block.iter().map(String::as_str).collect::<Vec<_>>())?;
                subgpt_core::progress::report(listener, trainer.bytes(), 0)
            })?;
        }
        let inner = door::enter_long(py, watcher(), |listener| trainer.finish(listener))?;
        Ok(Tokenizer { inner })
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

    /// Writes a directory or a `.json` file.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        door::enter(py, || core::files::save(&self.inner, &path))
    }

    /// The text of a `tokenizer.json`.
    fn to_json(&self, py: Python<'_>) -> PyResult<String> {
        door::enter(py, || self.inner.to_json(false))
    }

    /// Ids of a text.
    #[pyo3(signature = (text, allowed, disallowed, errors))]
    fn encode<'py>(
        &self,
        py: Python<'py>,
        text: &Bound<'py, PyAny>,
        allowed: Names,
        disallowed: Names,
        errors: &str,
    ) -> PyResult<Ids<'py>> {
        let options = encode_options(&allowed, &disallowed, errors)?;
        let text = text_of(text, "text", options.unknown)?;
        let text = text.to_str()?;
        let ids = if text.len() > LONG {
            door::enter_long(py, None, |listener| self.inner.encode(text, options, listener))
        } else {
            door::enter(py, || self.inner.encode(text, options, &mut subgpt_core::progress::ignore))
        }?;
        let shape = [ids.len()];
        to_numpy(py, ids, &shape)
    }

    /// Ids of many texts, one after the other, and the offsets where each begins.
    #[pyo3(signature = (texts, allowed, disallowed, errors))]
    fn encode_batch<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<Bound<'py, PyAny>>,
        allowed: Names,
        disallowed: Names,
        errors: &str,
    ) -> PyResult<(Ids<'py>, Bound<'py, PyArrayDyn<u64>>)> {
        let options = encode_options(&allowed, &disallowed, errors)?;
        let named = |(i, text)| text_of(text, &format!("texts[{i}]"), options.unknown);
        let texts = texts.iter().enumerate().map(named).collect::<PyResult<Vec<_>>>()?;
        let texts = texts.iter().map(|text| text.to_str()).collect::<PyResult<Vec<_>>>()?;
        let (ids, offsets) = door::enter_long(py, None, |listener| self.inner.encode_batch(&texts, options, listener))?;
        let shapes = ([ids.len()], [offsets.len()]);
        Ok((to_numpy(py, ids, &shapes.0)?, to_numpy(py, offsets, &shapes.1)?))
    }

    /// The bytes of ids.
    fn decode_bytes<'py>(&self, py: Python<'py>, ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let ids = ids_1d(ids, "ids")?;
        let bytes = door::enter(py, || self.inner.decode_bytes(&ids))?;
        Ok(PyBytes::new(py, &bytes))
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

/// Bytes to text as they come.
#[pyclass(frozen, module = "subgpt._core")]
struct Utf8Decoder {
    inner: Mutex<Utf8Stream>,
}

#[pymethods]
impl Utf8Decoder {
    #[new]
    fn new() -> Self {
        Utf8Decoder { inner: Mutex::default() }
    }

    /// Adds bytes; returns the characters that are now complete.
    fn push(&self, bytes: &[u8]) -> String {
        self.inner.lock().unwrap_or_else(|e| e.into_inner()).push(bytes)
    }

    /// Ends the text.
    fn flush(&self) -> String {
        self.inner.lock().unwrap_or_else(|e| e.into_inner()).flush()
    }
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
        vocab_size: get("vocab_size")?.extract()?,
        special_tokens: get("special_tokens")?.extract()?,
        min_frequency: get("min_frequency")?.extract()?,
        max_token_length: get("max_token_length")?.extract::<Option<usize>>()?.unwrap_or(usize::MAX),
    })
}

fn encode_options<'a>(allowed: &'a Names, disallowed: &'a Names, errors: &str) -> PyResult<EncodeOptions<'a>> {
    let which = |names: &'a Names| names.as_deref().map_or(Which::All, Which::Only);
    Ok(EncodeOptions { allowed: which(allowed), disallowed: which(disallowed), unknown: on_invalid(errors)? })
}

fn on_invalid(errors: &str) -> PyResult<OnInvalid> {
    match errors {
        "replace" => Ok(OnInvalid::Replace),
        "strict" => Ok(OnInvalid::Strict),
        _ => Err(InvalidValueError::new_err(format!("errors is {errors:?}; known are \"replace\" and \"strict\""))),
    }
}

/// `value` as a str that is valid Unicode. Lone surrogates, which Python allows, become U+FFFD or are an error.
fn text_of<'py>(value: &Bound<'py, PyAny>, name: &str, on_surrogate: OnInvalid) -> PyResult<Bound<'py, PyString>> {
    let Ok(text) = value.cast::<PyString>() else {
        return Err(DtypeError::new_err(format!("{name} must be str, not {}", describe(value))));
    };
    if text.to_str().is_ok() {
        return Ok(text.clone());
    }
    if on_surrogate == OnInvalid::Strict {
        return Err(TokenizerError::new_err(format!(
            "{name}: contains a lone surrogate, which is no character; remove it, or pass errors=\"replace\""
        )));
    }
    // Pairs that were split into two halves are joined again by the way, as in tiktoken.
    let utf16 = text.call_method1("encode", ("utf-16", "surrogatepass"))?;
    Ok(utf16.call_method1("decode", ("utf-16", "replace"))?.cast_into::<PyString>()?)
}

/// About [`BLOCK`] bytes of texts; nothing at the end.
fn take_block(
    texts: &mut Bound<'_, pyo3::types::PyIterator>,
    count: &mut usize,
    on_surrogate: OnInvalid,
) -> PyResult<Vec<String>> {
    let (mut block, mut size) = (Vec::new(), 0);
    for text in texts {
        let text = text_of(&text?, &format!("source: item {count}"), on_surrogate)?.to_str()?.to_string();
        *count += 1;
        size += text.len() + 64;
        block.push(text);
        if size >= BLOCK {
            break;
        }
    }
    Ok(block)
}

/// Adds this file's names to the module.
pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Tokenizer>()?;
    m.add_class::<Utf8Decoder>()
}
