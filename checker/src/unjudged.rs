//! What a level does not look at, in numbers, so that nobody takes silence for a proof.

/// Operations of a history that were not judged, by what they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NotJudged {
    /// Deletions of unknown outcome, and those that found nothing.
    pub deletions: usize,
    /// Reads that found nothing where that may be a deletion, the end of a time to live, or what was there at first.
    pub absent_reads: usize,
    /// Reads of what more than one operation may have written.
    pub ambiguous_reads: usize,
    /// Operations whose effect is not looked at: increments, appends, changes of a time to live; at the causal levels all but the reads of keys that
    /// have any of which the answer does not tell the effect.
    pub others: usize,
    /// Reads that may be answered weakly, of which linearizability says nothing.
    pub weak_reads: usize,
    /// Reads that were not compared with all writes that their sessions may have known.
    pub partly: usize,
}

impl NotJudged {
    /// The numbers by their names in JSON.
    pub fn counts(&self) -> [(&'static str, usize); 6] {
        [
            ("deletions", self.deletions),
            ("absent_reads", self.absent_reads),
            ("ambiguous_reads", self.ambiguous_reads),
            ("other_operations", self.others),
            ("weak_reads", self.weak_reads),
            ("partly_judged_reads", self.partly),
        ]
    }

    /// A sentence for each kind that there is.
    pub fn notes(&self) -> Vec<String> {
        let all = [
            (self.deletions, "deletions that found nothing, or of which nobody knows whether they happened"),
            (
                self.absent_reads,
                "reads that found nothing, which may be what was there at first, a deletion's, or the end of a time to live",
            ),
            (self.ambiguous_reads, "reads of what more than one operation may have written"),
            (self.others, "operations on keys with increments, appends, conditions or times to live"),
            (self.weak_reads, "reads at the levels causal and eventual"),
        ];
        let note = |(count, what): (usize, &str)| (count > 0).then(|| format!("not judged: {count} {what}"));
        let partly = (self.partly > 0).then(|| {
            format!(
                "judged in part: {} reads, which were not compared with all that their sessions may have known",
                self.partly
            )
        });
        all.into_iter().filter_map(note).chain(partly).collect()
    }
}

#[test]
fn what_was_judged_whole_has_no_notes() {
    assert!(NotJudged::default().notes().is_empty());
    let some = NotJudged { deletions: 2, partly: 1, ..NotJudged::default() };
    assert_eq!(some.notes().len(), 2);
    assert!(some.notes()[0].starts_with("not judged: 2 deletions"));
    assert_eq!(some.counts()[0], ("deletions", 2));
}
