//! `aio device model`: the form of its tables, and what they must show whatever the constants are.

use crate::Place;
use serde_json::Value;

fn sections(place: &Place, flags: &[&str]) -> Vec<Value> {
    let base = ["device", "model", "-o", "json"];
    let all: Value = serde_json::from_str(&place.good(&[&base[..], flags].concat())).unwrap();
    all.as_array().unwrap().clone()
}

fn number(row: &Value, column: &str) -> f64 {
    row[column].as_str().unwrap().parse().unwrap()
}

#[test]
fn every_modelled_table_says_so_and_has_rows() {
    let place = Place::new();
    let all = sections(&place, &[]);
    assert_eq!(all.len(), 11);
    for section in &all {
        assert_eq!(section["kind"], "modelled");
        assert!(section["title"].as_str().unwrap().starts_with("Modelled"));
        assert!(!section["rows"].as_array().unwrap().is_empty());
    }
    let table = place.good(&["device", "model", "--only", "inputs", "--host", "native"]);
    assert!(table.contains("| native | launch\\_ns | 12000 |") && !table.contains("| torch-eager |"), "{table}");
    place.bad(&["device", "model", "--chip", "310P"], 2, "910B1");
}

#[test]
fn the_modelled_ratio_of_the_models_is_the_published_one_within_a_tenth() {
    let place = Place::new();
    let all = sections(&place, &["--only", "predictions"]);
    let ratio = &all[0]["rows"][0];
    assert!((number(ratio, "predicted") / number(ratio, "published") - 1.0).abs() <= 0.1, "{ratio}");
    for row in all[1]["rows"].as_array().unwrap() {
        let ratio =
            row["device as in the profile"].as_str().unwrap().split(' ').next().unwrap().parse::<f64>().unwrap();
        assert!((ratio / 1.26 - 1.0).abs() <= 0.1, "{row}");
    }
}

#[test]
fn one_graph_a_step_ends_the_paradox() {
    let place = Place::new();
    let all = sections(&place, &["--only", "paradox", "--host", "torch-eager"]);
    let rows = all[0]["rows"].as_array().unwrap();
    let ratio = |row: &Value| number(row, "speed of 1B over 7B");
    assert!(ratio(&rows[0]) < 1.4 && ratio(rows.last().unwrap()) > 2.0, "{rows:?}");
}

#[test]
fn buckets_beat_patched_lengths_where_the_host_is_slow() {
    let place = Place::new();
    let all = sections(&place, &["--only", "lengths", "--host", "torch-eager"]);
    let small = &all[0]["rows"][0];
    assert_eq!((&small["model"], &small["context"]), (&Value::from("pangu-1b"), &Value::from("2048")));
    assert!(number(small, "patch over bucket") > 1.0, "{small}");
}

#[test]
fn rows_verified_together_cost_less_than_one_by_one() {
    let place = Place::new();
    let all = sections(&place, &["--only", "verification"]);
    for row in all[0]["rows"].as_array().unwrap() {
        assert!(number(row, "batched is faster by") > 1.0, "{row}");
    }
}
