//! Sums over tasks that have something in common.

use crate::predict::Work;
use crate::report::{GroupRow, Groups, TaskRow};

/// All groups of a step.
pub(crate) fn groups(tasks: &[TaskRow]) -> Groups {
    let layer = |t: &TaskRow| t.layer.map_or("-".to_owned(), |l| l.to_string());
    Groups {
        op: by(tasks, |t| t.kind.clone()),
        layer: by(tasks, layer),
        block: by(tasks, |t| t.block.to_string()),
        dtype: by(tasks, |t| t.dtype.clone()),
    }
}

/// Groups by a key, in the order in which the keys come up.
fn by(tasks: &[TaskRow], key: impl Fn(&TaskRow) -> String) -> Vec<GroupRow> {
    let all: f64 = tasks.iter().map(|t| t.predicted_seconds).sum();
    let mut rows: Vec<GroupRow> = Vec::new();
    for task in tasks {
        let key = key(task);
        let place = rows.iter().position(|r| r.key == key).unwrap_or_else(|| {
            rows.push(GroupRow::empty(key));
            rows.len() - 1
        });
        rows[place].add(task);
    }
    for row in &mut rows {
        row.predicted_share = if all > 0.0 { row.predicted_seconds / all } else { 0.0 };
    }
    rows
}

impl GroupRow {
    fn empty(key: String) -> GroupRow {
        let work = Work::default();
        GroupRow { key, tasks: 0, work, predicted_seconds: 0.0, predicted_share: 0.0, measured_seconds: None }
    }

    fn add(&mut self, task: &TaskRow) {
        self.tasks += 1;
        self.work = self.work.plus(&task.work);
        self.predicted_seconds += task.predicted_seconds;
        if let Some(measured) = &task.measured {
            *self.measured_seconds.get_or_insert(0.0) += measured.p50_seconds;
        }
    }
}
