//! Encoding many texts on all threads.

use super::Tokenizer;
use super::corpus::OnInvalid;
use super::encode::{EncodeOptions, Job, TASK, WAVE, room_for};
use super::special::Rules;
use super::tasks::Task;
use crate::error::{Error, Result};
use crate::parallel;
use crate::progress::{self, Listener};
use std::ops::Range;

/// A text is cut into parts from this size on.
const LONG: usize = 8 * TASK;

/// What a thread takes at a time.
struct Share<'t> {
    texts: Range<usize>,
    /// The part of the one text that it is, where that is long.
    part: Option<Task<'t>>,
}

impl Tokenizer {
    /// The ids of every text, one after the other, and where each begins: text `i` has `ids[offsets[i]..offsets[i + 1]]`.
    pub fn encode_batch(
        &self,
        texts: &[&str],
        options: EncodeOptions<'_>,
        listener: &mut Listener<'_>,
    ) -> Result<(Vec<u32>, Vec<u64>)> {
        let total = texts.iter().map(|t| t.len()).sum();
        let rules = self.rules(options)?;
        let shares = self.shares(texts, &rules)?;
        let mut ids = room_for(total);
        let (mut offsets, mut done) = (vec![0; texts.len() + 1], 0);
        for wave in shares.chunks(WAVE) {
            progress::report(listener, done, total as u64)?;
            let lengths = parallel::concat(&mut ids, wave.len(), |i, ids| {
                self.share(texts, &wave[i], &rules, options.unknown, ids)
            });
            for (share, lengths) in wave.iter().zip(lengths) {
                for (at, length) in share.texts.clone().zip(lengths?) {
                    offsets[at + 1] += length as u64;
                    done += share.part.as_ref().map_or(texts[at].len(), |part| part.text.len()) as u64;
                }
            }
        }
        // Lengths become ends.
        for at in 0..texts.len() {
            offsets[at + 1] += offsets[at];
        }
        ids.shrink_to_fit();
        Ok((ids, offsets))
    }

    /// What threads take one after the other: several short texts, or a part of a long one.
    fn shares<'t>(&self, texts: &[&'t str], rules: &Rules<'_>) -> Result<Vec<Share<'t>>> {
        let mut shares = Vec::new();
        let (mut start, mut size) = (0, 0);
        for (at, text) in texts.iter().enumerate() {
            let long = text.len() > LONG;
            if start < at && (long || size >= TASK) {
                shares.push(Share { texts: start..at, part: None });
                (start, size) = (at, 0);
            }
            if long {
                let parts = self.tasks(text, rules.admit(text).map_err(|e| in_text(e, at))?);
                shares.extend(parts.into_iter().map(|part| Share { texts: at..at + 1, part: Some(part) }));
                start = at + 1;
            } else {
                size += text.len() + 64;
            }
        }
        if start < texts.len() {
            shares.push(Share { texts: start..texts.len(), part: None });
        }
        Ok(shares)
    }

    /// Appends the ids of a share; gives how many each of its texts has.
    fn share(
        &self,
        texts: &[&str],
        share: &Share<'_>,
        rules: &Rules<'_>,
        unknown: OnInvalid,
        ids: &mut Vec<u32>,
    ) -> Result<Vec<usize>> {
        let mut job = Job::new(self, unknown, ids);
        let mut lengths = Vec::with_capacity(share.texts.len());
        for at in share.texts.clone() {
            let before = job.ids.len();
            let encoded = match &share.part {
                // Whether the text is admitted was asked before it was cut.
                Some(part) => job.task(part, rules),
                None => rules.admit(texts[at]).and_then(|_| job.task(&Task::whole(texts[at]), rules)),
            };
            encoded.map_err(|e| in_text(e, at))?;
            lengths.push(job.ids.len() - before);
        }
        Ok(lengths)
    }
}

/// Adds to an error which text of a batch it came from.
fn in_text(error: Error, at: usize) -> Error {
    error.within(format_args!("texts[{at}], "))
}
