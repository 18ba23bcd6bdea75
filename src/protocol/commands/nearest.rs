//! Did you mean …? A slip of the finger is told from a word that nobody knows.

use super::COMMANDS;

/// The command that `word` is most likely to mean, if it is near to any.
pub fn nearest(word: &[u8]) -> Option<&'static str> {
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let upper = word.to_ascii_uppercase();
    // One slip in a short word is about as likely as two in a long one.
    let slips_max = if word.len() < 4 { 1 } else { 2 };
    COMMANDS
        .iter()
        .map(|entry| (slips(entry.name.as_bytes(), &upper), entry.name))
        .min()
        .filter(|(slips, _)| *slips <= slips_max)
        .map(|(_, name)| name)
}

/// Longer words than this are no slip of any command.
const WORD_BYTES_MAX: usize = 15;

/// How many letters must be added, dropped, replaced or swapped with their neighbour to get from
/// one word to the other.
fn slips(from: &[u8], to: &[u8]) -> usize {
    if from.len().abs_diff(to.len()) > 2 || from.len().max(to.len()) > WORD_BYTES_MAX {
        return usize::MAX; // far apart, and perhaps very long
    }
    // rows[i][j]: from the first i letters of the one to the first j of the other.
    let mut rows = [[0_usize; WORD_BYTES_MAX + 1]; WORD_BYTES_MAX + 1];
    rows[0] = std::array::from_fn(|j| j);
    for i in 1..=from.len() {
        rows[i][0] = i;
        for j in 1..=to.len() {
            let same = usize::from(from[i - 1] != to[j - 1]);
            let mut best = rows[i - 1][j - 1] + same;
            best = best.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[from.len()][to.len()]
}
