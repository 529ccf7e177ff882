//! What stood on one side of the pairs that a merge replaced: by symbol, how often and where.

use super::Seen;

/// Neighbours on one side.
#[derive(Default)]
pub struct Neighbours {
    /// In the order of their places: the symbol, and where the new pair with it begins.
    all: Vec<(u32, u32)>,
    /// By symbol, with places as far as they are listed.
    seen: Vec<Seen>,
    /// The symbols that were seen.
    symbols: Vec<u32>,
}

impl Neighbours {
    /// Adds a neighbour.
    #[inline]
    pub fn add(&mut self, symbol: u32, place: u32, weight: u64) {
        let at = symbol as usize;
        if self.seen.len() <= at {
            self.seen.resize(at + 1, Seen::default());
        }
        let seen = &mut self.seen[at];
        if seen.len == 0 {
            self.symbols.push(symbol);
        }
        seen.count = seen.count.saturating_add(weight);
        seen.len += 1;
        self.all.push((symbol, place));
    }

    /// Appends the places of each symbol to `places`.
    pub fn list(&mut self, places: &mut Vec<u32>) {
        let mut next = places.len();
        for &symbol in &self.symbols {
            let seen = &mut self.seen[symbol as usize];
            seen.first = next;
            next += seen.len as usize;
        }
        places.resize(next, 0);
        for &(symbol, place) in &self.all {
            let seen = &mut self.seen[symbol as usize];
            places[seen.first] = place;
            seen.first += 1;
        }
        for &symbol in &self.symbols {
            let seen = &mut self.seen[symbol as usize];
            seen.first -= seen.len as usize;
        }
    }

    /// Calls `each` with every symbol and what is known about it.
    pub fn each(&self, mut each: impl FnMut(u32, Seen)) {
        self.symbols.iter().for_each(|&symbol| each(symbol, self.seen[symbol as usize]));
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        for symbol in self.symbols.drain(..) {
            self.seen[symbol as usize] = Seen::default();
        }
        self.all.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_grouped_in_their_order() {
        let mut neighbours = Neighbours::default();
        for _ in 0..2 {
            for (symbol, place) in [(5, 1), (2, 3), (5, 4), (2, 9), (7, 10)] {
                neighbours.add(symbol, place, 10);
            }
            let mut places = vec![99];
            neighbours.list(&mut places);
            let mut found = Vec::new();
            neighbours.each(|symbol, seen| found.push((symbol, seen.count, places[seen.places()].to_vec())));
            assert_eq!(found, [(5, 20, vec![1, 4]), (2, 20, vec![3, 9]), (7, 10, vec![10])]);
            neighbours.clear();
        }
    }
}
