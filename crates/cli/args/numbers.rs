//! Lists of numbers in flags. Kept apart because flags of several subcommands take them.

/// Maximum number of values in one list.
const MAX_LIST: usize = 1024;

/// A list of numbers and ranges: `1,2,8-16+4,32-256*2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Numbers(pub Vec<u32>);

/// Parses a list; each item is `N`, `A-B`, `A-B+STEP` or `A-B*FACTOR`.
pub(super) fn numbers(text: &str) -> Result<Numbers, String> {
    let mut all = Vec::new();
    for item in text.split(',') {
        range(item.trim(), &mut all)?;
        if all.len() > MAX_LIST {
            return Err(format!("more than {MAX_LIST} numbers"));
        }
    }
    Ok(Numbers(all))
}

fn range(item: &str, all: &mut Vec<u32>) -> Result<(), String> {
    let number = |t: &str| t.parse::<u32>().map_err(|_| format!("`{t}` in `{item}` is not a number"));
    let Some((first, rest)) = item.split_once('-') else {
        all.push(number(item)?);
        return Ok(());
    };
    let (last, step, factor) = if let Some((last, step)) = rest.split_once('+') {
        (last, number(step)?, 1)
    } else if let Some((last, factor)) = rest.split_once('*') {
        (last, 0, number(factor)?)
    } else {
        (rest, 1, 1)
    };
    let (mut at, last) = (u64::from(number(first)?), u64::from(number(last)?));
    let next = |at: u64| at * u64::from(factor) + u64::from(step);
    if at > last || next(at) <= at {
        return Err(format!("`{item}` does not increase"));
    }
    while at <= last && all.len() <= MAX_LIST {
        all.push(at as u32);
        at = next(at);
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges() {
        let list = |t: &str| numbers(t).unwrap().0;
        assert_eq!(list("1,2,8-11"), [1, 2, 8, 9, 10, 11]);
        assert_eq!(list("0-4096+2048"), [0, 2048, 4096]);
        assert_eq!(list("32-256*2"), [32, 64, 128, 256]);
        for bad in ["", "x", "4-1", "0-8*2", "1-9+0", "1-9*1", "-3", "0-99999", "5000000000"] {
            assert!(numbers(bad).is_err(), "{bad}");
        }
    }
}
