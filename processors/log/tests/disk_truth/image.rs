//! A file system in a file, whose power can be cut.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted ext4 image. Dropping it unmounts it.
pub(crate) struct Image {
    file: PathBuf,
    mount: PathBuf,
}

const SIZE: u64 = 48 << 20;

impl Image {
    /// Makes and mounts an empty file system; says what is missing where that is not possible here.
    pub(crate) fn new(dir: &Path) -> Result<Image, String> {
        let file = dir.join("disk.img");
        File::create(&file).and_then(|file| file.set_len(SIZE)).map_err(|error| error.to_string())?;
        run("mkfs.ext4", &["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", path(&file)])?;
        Image::mount(file, dir.join("mounted"))
    }

    fn mount(file: PathBuf, mount: PathBuf) -> Result<Image, String> {
        fs::create_dir_all(&mount).map_err(|error| error.to_string())?;
        run("mount", &["-o", "loop", path(&file), path(&mount)])?;
        Ok(Image { file, mount })
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.mount.join("log")
    }

    /// Mounts it again so that nothing can be written.
    pub(crate) fn make_read_only(&self) {
        run("mount", &["-o", "remount,ro", path(&self.mount)]).unwrap();
    }

    /// What a power cut at this moment leaves: the backing file as it is, without what only the page cache holds.
    pub(crate) fn cut(&self) -> Image {
        let copy = self.file.with_extension("cut");
        fs::copy(&self.file, &copy).unwrap();
        Image::mount(copy, self.mount.with_extension("cut")).unwrap()
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if run("umount", &[path(&self.mount)]).is_err() {
            let _ = run("umount", &["-l", path(&self.mount)]);
        }
        let _ = fs::remove_file(&self.file);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, words: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(words).output().map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {}", said.trim())) }
}

/// Says that a test could not run here, where whoever runs all tests counts it.
pub(crate) fn skip(name: &str, why: &str) {
    use std::io::Write as _;
    println!("skipped: {name}: {why}");
    if let Ok(list) = std::env::var("OMIUM_SKIPS") {
        let file = File::options().create(true).append(true).open(list);
        file.and_then(|mut file| writeln!(file, "{name}: {why}")).unwrap();
    }
}
