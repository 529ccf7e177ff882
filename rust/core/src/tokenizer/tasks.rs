//! A long text in parts that can be encoded each on its own, in order.

use super::Tokenizer;
use super::special::Matcher;

/// A part of a text.
pub(super) struct Task<'t> {
    /// The part; the name of the token where it is a special one.
    pub text: &'t str,
    /// Whether it begins a stretch between special tokens.
    pub first: bool,
    /// The special token that it is.
    pub special: Option<u32>,
    /// Where it begins in the whole text.
    pub at: usize,
}

/// Parts of a text, made one by one.
pub(super) struct Tasks<'a, 't> {
    tokenizer: &'a Tokenizer,
    matcher: &'a Matcher,
    text: &'t str,
    at: usize,
    /// The stretch that is being cut: where it begins and ends, and the special token behind it.
    stretch: (usize, usize),
    special: Option<(&'t str, u32)>,
}

impl<'a, 't> Tasks<'a, 't> {
    /// The parts of `text`, in which `matcher` finds special tokens.
    pub fn new(tokenizer: &'a Tokenizer, text: &'t str, matcher: &'a Matcher) -> Self {
        let mut tasks = Tasks { tokenizer, matcher, text, at: 0, stretch: (0, 0), special: None };
        tasks.look();
        tasks
    }

    /// Finds the stretch that begins here.
    fn look(&mut self) {
        let found = self.matcher.find(self.text, self.at);
        self.stretch = (self.at, found.map_or(self.text.len(), |(start, ..)| start));
        self.special = found.map(|(_, name, id)| (name, id));
    }

    /// The next part, of about `size` bytes where the text can be cut there; more where it cannot.
    pub fn next(&mut self, size: usize) -> Option<Task<'t>> {
        let (start, end) = self.stretch;
        let at = self.at;
        if at < end {
            let rest = &self.text[at..end];
            self.at += self.cut(rest, size);
            return Some(Task { text: &self.text[at..self.at], first: at == start, special: None, at });
        }
        let (name, id) = self.special?;
        self.at += name.len();
        self.look();
        Some(Task { text: name, first: false, special: Some(id), at })
    }

    /// Where to cut `text`: a place that changes no piece.
    fn cut(&self, text: &str, mut limit: usize) -> usize {
        let Some(pattern) = self.tokenizer.cuttable() else { return text.len() };
        while limit < text.len() {
            if let Some(cut) = pattern.safe_cut(text, limit) {
                return cut;
            }
            limit *= 2;
        }
        text.len()
    }
}
