//! Did you mean …? A slip of the finger is told from a word that nobody knows.

use super::COMMANDS;

/// The command that `word` is most likely to mean, if it is near to any.
pub fn nearest(word: &[u8]) -> Option<&'static str> {
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

/// How many letters must be added, dropped, replaced or swapped with their neighbour to get from
/// one word to the other.
fn slips(from: &[u8], to: &[u8]) -> usize {
    if from.len().abs_diff(to.len()) > 2 {
        return usize::MAX; // far apart, and perhaps very long
    }
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let same = usize::from(from[i - 1] != to[j - 1]);
            let mut best = (rows[i - 1][j - 1] + same).min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}
