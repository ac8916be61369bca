//! No cycles between files: inside a crate, imports go one way.
//!
//! Reads `use` declarations, and full paths that begin with `crate`, `super` or `self`. A `pub use` re-exports a name:
//! importing that name counts as importing the file that defines it. The op table names each op's shape rule, and the
//! shape rules name ops, so these files may import each other.

use std::collections::{BTreeMap, BTreeSet};

/// Files that may import each other.
const MAY: [&[&str]; 1] = [&[
    "crates/ir/src/infer.rs",
    "crates/ir/src/infer_error.rs",
    "crates/ir/src/infer_state.rs",
    "crates/ir/src/op.rs",
]];

type Path = Vec<String>;

/// A file as a module.
struct Module {
    file: String,
    /// Absolute paths that it imports or names.
    takes: Vec<Path>,
    /// Names that it re-exports, each with its absolute path.
    hands_on: BTreeMap<String, Path>,
    /// Modules that it re-exports with `*`.
    globs: Vec<Path>,
}

/// The crate's folder and the module path, if the file is a source of a crate.
fn module_of(name: &str) -> Option<(&str, Path)> {
    let (folder, inside) = match name.split_once("/src/") {
        Some((folder, inside)) if folder.starts_with("crates/") && !folder[7..].contains('/') => (folder, inside),
        _ => name.strip_prefix("crates/cli/").map(|inside| ("crates/cli", inside))?,
    };
    let mut path: Path = inside.strip_suffix(".rs")?.split('/').map(str::to_owned).collect();
    if matches!(path.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        path.pop();
    }
    Some((folder, path))
}

/// Source without comments and tests. Visibility paths are not imports, and a module inside the file takes its names
/// from the file.
fn bare(text: &str) -> String {
    let shipped = text.split("#[cfg(test)]").next().unwrap_or("");
    let lines = shipped.lines().map(|line| line.split("//").next().unwrap_or(""));
    lines.collect::<Vec<_>>().join("\n").replace("pub(in crate::", "pub(in ").replace("    use super::*;", "")
}

/// Splits at commas outside braces.
fn parts(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut out) = (0, 0, Vec::new());
    for (i, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                out.push(&list[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&list[start..]);
    out.into_iter().map(str::trim).filter(|p| !p.is_empty()).collect()
}

/// All paths in a `use` tree, with the names they are known by.
fn flatten(tree: &str, before: &Path, out: &mut Vec<(Path, String)>) {
    let tree = tree.trim();
    if let Some((head, rest)) = tree.split_once('{') {
        let mut path = before.clone();
        path.extend(head.split("::").map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()));
        for part in parts(rest.strip_suffix('}').unwrap_or(rest)) {
            flatten(part, &path, out);
        }
        return;
    }
    let (tree, alias) = tree.split_once(" as ").map_or((tree, None), |(t, a)| (t, Some(a.trim().to_owned())));
    let mut path = before.clone();
    path.extend(tree.split("::").map(|s| s.trim().to_owned()));
    if path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let name = alias.or_else(|| path.last().cloned()).unwrap_or_default();
    out.push((path, name));
}

/// Makes a path written in a module absolute; `None` for paths into other crates.
fn absolute(path: &Path, here: &Path, children: &BTreeSet<Path>) -> Option<Path> {
    let child = |first: &String| children.contains(&[here.clone(), vec![first.clone()]].concat());
    match path.first()?.as_str() {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some([here.clone(), path[1..].to_vec()].concat()),
        "super" => {
            let ups = path.iter().take_while(|s| *s == "super").count();
            let base = here.get(..here.len().checked_sub(ups)?)?;
            Some([base.to_vec(), path[ups..].to_vec()].concat())
        }
        _ if child(&path[0]) => Some([here.clone(), path.clone()].concat()),
        _ => None,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == ':'
}

fn read(file: &str, text: &str, here: &Path, modules: &BTreeSet<Path>) -> Module {
    let mut module = Module { file: file.to_owned(), takes: Vec::new(), hands_on: BTreeMap::new(), globs: Vec::new() };
    let text = bare(text);
    for statement in text.split(';') {
        let words = statement.rsplit_once("use ").filter(|(before, _)| {
            let last = before.rsplit(['\n', '}', '{', ';']).next().unwrap_or("").trim();
            last.is_empty() || last.starts_with("pub")
        });
        let Some((before, tree)) = words else {
            for word in statement.split(|c| !is_word(c)).filter(|w| w.contains("::")) {
                let path: Path = word.split("::").map(str::to_owned).collect();
                module.takes.extend(absolute(&path, here, modules));
            }
            continue;
        };
        let handed = before.rsplit('\n').next().unwrap_or("").trim().starts_with("pub");
        let mut found = Vec::new();
        flatten(tree, &Vec::new(), &mut found);
        for (path, name) in found {
            let Some(path) = absolute(&path, here, modules) else { continue };
            match (handed, name.as_str()) {
                (true, "*") => module.globs.push(path[..path.len() - 1].to_vec()),
                (true, _) => _ = module.hands_on.insert(name, path),
                (false, _) => module.takes.push(path),
            }
        }
    }
    module
}

/// The module that defines the item a path names.
fn home(path: &Path, modules: &BTreeMap<Path, Module>, depth: usize) -> Option<Path> {
    let len = (0..=path.len()).rev().find(|&len| modules.contains_key(&path[..len]))?;
    let (found, rest) = (path[..len].to_vec(), &path[len..]);
    let Some(name) = rest.first().filter(|_| depth < 8) else { return Some(found) };
    let module = &modules[&found];
    if let Some(target) = module.hands_on.get(name) {
        return home(&[target.clone(), rest[1..].to_vec()].concat(), modules, depth + 1);
    }
    Some(found)
}

/// For each file, the files that it imports, with the items it takes from each.
type Edges = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Files reachable from a file.
fn reached<'a>(from: &'a str, edges: &'a Edges) -> BTreeSet<&'a str> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(file) = open.pop() {
        for next in edges.get(file).into_iter().flatten().map(|(f, _)| f).filter(|next| seen.insert(next.as_str())) {
            open.push(next);
        }
    }
    seen
}

fn edges(files: &[(String, String)]) -> Edges {
    let mut crates: BTreeMap<&str, Vec<(&str, Path, &str)>> = BTreeMap::new();
    for (name, text) in files {
        if let Some((folder, path)) = module_of(name) {
            crates.entry(folder).or_default().push((name, path, text));
        }
    }
    let mut edges = Edges::new();
    for sources in crates.values() {
        let names: BTreeSet<Path> = sources.iter().map(|(_, path, _)| path.clone()).collect();
        let modules: BTreeMap<Path, Module> =
            sources.iter().map(|(name, path, text)| (path.clone(), read(name, text, path, &names))).collect();
        for module in modules.values() {
            let taken = module.takes.iter().filter_map(|path| Some((path, &modules[&home(path, &modules, 0)?].file)));
            for (path, file) in taken.filter(|(_, file)| **file != module.file) {
                let names = edges.entry(module.file.clone()).or_default().entry(file.clone()).or_default();
                names.insert(path.join("::"));
            }
        }
    }
    edges
}

/// Each cycle as a list of its imports, one per line.
pub(crate) fn circles(files: &[(String, String)]) -> Vec<Vec<String>> {
    let edges = edges(files);
    let reach: BTreeMap<&str, BTreeSet<&str>> = edges.keys().map(|f| (f.as_str(), reached(f, &edges))).collect();
    let mut found = BTreeSet::new();
    for (file, seen) in reach.iter().filter(|(file, seen)| seen.contains(**file)) {
        found.insert(
            seen.iter()
                .filter(|other| reach.get(*other).is_some_and(|r| r.contains(file)))
                .copied()
                .collect::<Vec<&str>>(),
        );
    }
    let allowed = |circle: &Vec<&str>| MAY.iter().any(|may| circle.iter().all(|file| may.contains(file)));
    found.into_iter().filter(|circle| !allowed(circle)).map(|circle| imports(&circle, &edges)).collect()
}

fn imports(circle: &[&str], edges: &Edges) -> Vec<String> {
    let inside = |file: &&str| edges[*file].iter().filter(|(to, _)| circle.contains(&to.as_str()));
    let line = |from: &str, to: &str, names: &BTreeSet<String>| {
        format!("{from} -> {to}: {}", names.iter().cloned().collect::<Vec<_>>().join(", "))
    };
    circle.iter().flat_map(|from| inside(from).map(move |(to, names)| line(from, to, names))).collect()
}

#[test]
fn circles_are_found() {
    let file = |name: &str, text: &str| (format!("crates/x/src/{name}.rs"), text.to_owned());
    let one_way = [file("lib", "mod a;\nmod b;\npub use a::A;"), file("a", "use crate::b::B;"), file("b", "struct B;")];
    assert_eq!(circles(&one_way), Vec::<Vec<String>>::new());
    let round =
        [file("lib", "mod a;\nmod b;\npub use a::A;"), file("a", "use crate::b::B;"), file("b", "use crate::A;")];
    let lines = ["crates/x/src/a.rs -> crates/x/src/b.rs: b::B", "crates/x/src/b.rs -> crates/x/src/a.rs: A"];
    assert_eq!(circles(&round), [lines]);
}
