//! Rows by their numbers, frozen in no time.
//!
//! A tree of two levels below a list: the list and the branches stay in the processor's caches, so
//! to find a row is to wait for memory once; to change it, also for the head of its leaf, which
//! counts the leaf's owners, at the same time (see `is_own`). Leaves and branches are shared with
//! clones until either changes; then the leaf is copied, and what leads to it. A leaf is small,
//! because it is copied when the first of its rows changes after a freeze, and whoever copies a row
//! counts the owners of its value up, which means to wait for it.
//!
//! A persistent vector of a library would do, and did. To find a row it looks at the head of every
//! node on the way, and of the leaf, before it knows where to look next; side by side, a SET took
//! 1.1 to 1.2 times the processor time with it.

use std::array;

use triomphe::Arc;

/// Rows of a leaf.
const LEAF_ROWS: usize = 16;

/// Leaves of a branch. A clone counts up one number for each branch, and the first change to a
/// branch after it one for each leaf.
const BRANCH_LEAVES: usize = 256;

/// Rows of a branch.
const BRANCH_ROWS: usize = LEAF_ROWS * BRANCH_LEAVES;

/// A list of rows. They are put in and taken out at its end.
#[derive(Clone, Debug)]
pub(super) struct Rows<R> {
    /// All are full but the last; none is empty.
    branches: Vec<Arc<Branch<R>>>,
    len: usize,
}

/// All leaves are full but the last of all.
type Branch<R> = [Option<Arc<Leaf<R>>>; BRANCH_LEAVES];

type Leaf<R> = [Option<R>; LEAF_ROWS];

impl<R> Default for Rows<R> {
    fn default() -> Rows<R> {
        Rows { branches: Vec::new(), len: 0 }
    }
}

impl<R: Clone> Rows<R> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, row: usize) -> Option<&R> {
        self.leaf(row)?[row % LEAF_ROWS].as_ref()
    }

    pub(super) fn get_mut(&mut self, row: usize) -> Option<&mut R> {
        if row < self.len { self.place(row).as_mut() } else { None }
    }

    /// Adds a row at the end.
    pub(super) fn push(&mut self, row: R) {
        if self.len.is_multiple_of(BRANCH_ROWS) {
            self.branches.push(Arc::new(array::from_fn(|_| None)));
        }
        let at = self.len;
        self.len += 1;
        *self.place(at) = Some(row);
    }

    /// Takes the last row out.
    pub(super) fn pop(&mut self) -> Option<R> {
        self.len = self.len.checked_sub(1)?;
        let last = self.place(self.len).take();
        if self.len.is_multiple_of(BRANCH_ROWS) {
            self.branches.pop();
        } else if self.len.is_multiple_of(LEAF_ROWS) {
            let branch = Arc::make_mut(&mut self.branches[self.len / BRANCH_ROWS]);
            branch[self.len / LEAF_ROWS % BRANCH_LEAVES] = None;
        }
        last
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &R> {
        (0..self.len).filter_map(|row| self.get(row))
    }

    /// Whether a change to the row copies nothing: nobody else has its leaf, or its branch.
    pub(super) fn is_own(&self, row: usize) -> bool {
        self.leaf(row).is_some_and(Arc::is_unique) && self.branches[row / BRANCH_ROWS].is_unique()
    }

    fn leaf(&self, row: usize) -> Option<&Arc<Leaf<R>>> {
        self.branches.get(row / BRANCH_ROWS)?[row / LEAF_ROWS % BRANCH_LEAVES].as_ref()
    }

    /// Where a row is or will be, in memory that nobody else has.
    fn place(&mut self, row: usize) -> &mut Option<R> {
        let branch = Arc::make_mut(&mut self.branches[row / BRANCH_ROWS]);
        let leaf = branch[row / LEAF_ROWS % BRANCH_LEAVES]
            .get_or_insert_with(|| Arc::new(array::from_fn(|_| None)));
        &mut Arc::make_mut(leaf)[row % LEAF_ROWS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(rows: &Rows<usize>, list: &[usize]) {
        assert_eq!(rows.len(), list.len());
        assert!(rows.iter().eq(list));
        assert_eq!(rows.get(list.len()), None);
        let branches = list.len().div_ceil(BRANCH_ROWS);
        assert_eq!(rows.branches.len(), branches);
        let leaves = rows.branches.iter().flat_map(|branch| branch.iter().flatten());
        assert_eq!(leaves.count(), list.len().div_ceil(LEAF_ROWS), "no leaf is kept empty");
    }

    /// It is a list, across the ends of leaves and branches, and so are the frozen copies of it.
    #[test]
    fn it_is_a_list() {
        let (mut rows, mut list) = (Rows::default(), Vec::new());
        let mut frozen = Vec::new();
        let edges = [0, 1, LEAF_ROWS, BRANCH_ROWS - 1, BRANCH_ROWS, 2 * BRANCH_ROWS + LEAF_ROWS];
        for step in 0..=2 * BRANCH_ROWS + 2 * LEAF_ROWS {
            rows.push(step);
            list.push(step);
            let changed = step / 2;
            *rows.get_mut(changed).expect("it is there") += 1_000_000;
            list[changed] += 1_000_000;
            assert!(rows.is_own(changed));
            if edges.contains(&step) {
                frozen.push((rows.clone(), list.clone()));
                assert!(!rows.is_own(changed));
            }
        }
        assert_eq!(rows.get_mut(list.len()), None);
        compare(&rows, &list);
        for length in (0..list.len()).rev() {
            assert_eq!(rows.pop(), list.pop());
            if edges.contains(&length) {
                compare(&rows, &list);
            }
        }
        assert_eq!((rows.pop(), rows.len()), (None, 0));
        assert_eq!(frozen.len(), edges.len());
        frozen.iter().for_each(|(rows, list)| compare(rows, list));
    }
}
